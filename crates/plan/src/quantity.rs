//! Quantities as Kubernetes writes them, as bytes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The bytes of `quantity`, rounded down; `None` where it is no such number, or
/// beyond what a `u64` holds.
pub fn bytes(quantity: &Quantity) -> Option<u64> {
    u64::try_from(billionths(&quantity.0)? / 1_000_000_000).ok()
}

/// Whether two quantities are the same number, however they are written.
pub fn same(one: &str, other: &str) -> bool {
    billionths(one).is_some_and(|number| billionths(other) == Some(number))
}

fn billionths(text: &str) -> Option<u128> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let (multiplier, divisor) = unit(suffix)?;
    // Nine digits behind the point: no more than that makes a whole byte.
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let scaled = whole
        .parse::<u128>()
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(digits.parse::<u128>().ok()?)?;
    Some(scaled.checked_mul(multiplier)? / divisor)
}

/// By what a suffix multiplies, and by what it divides.
fn unit(suffix: &str) -> Option<(u128, u128)> {
    let power = |base: u128, exponent: u32| Some((base.pow(exponent), 1));
    match suffix {
        "" => power(1, 0),
        "m" => Some((1, 1_000)),
        "k" | "K" => power(1_000, 1),
        "M" => power(1_000, 2),
        "G" => power(1_000, 3),
        "T" => power(1_000, 4),
        "P" => power(1_000, 5),
        "E" => power(1_000, 6),
        "Ki" => power(1_024, 1),
        "Mi" => power(1_024, 2),
        "Gi" => power(1_024, 3),
        "Ti" => power(1_024, 4),
        "Pi" => power(1_024, 5),
        "Ei" => power(1_024, 6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_may_be_written_otherwise() {
        assert!(same("1024Mi", "1Gi") && same("0.1", "100m"));
        assert!(!same("100m", "200m") && !same("big", "big"));
    }

    #[test]
    fn quantities_are_bytes() {
        let table = [
            ("0", Some(0)),
            ("1536", Some(1_536)),
            ("1.5Ki", Some(1_536)),
            ("256Mi", Some(256 << 20)),
            ("0.2Ti", Some((1 << 40) / 5)),
            ("1G", Some(1_000_000_000)),
            ("2500m", Some(2)),
            ("15Ei", Some(15 << 60)),
            ("16Ei", None),
            ("", None),
            ("Gi", None),
            ("1Zi", None),
            ("-1", None),
            ("1.2.3", None),
        ];
        for (text, expected) in table {
            assert_eq!(bytes(&Quantity(text.into())), expected, "{text}");
        }
    }
}
