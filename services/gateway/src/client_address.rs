//! Who is calling: the connection's address, or what trusted proxies say.
//!
//! X-Forwarded-For is read from the right, past trusted proxies only: what
//! stands left of the first untrusted address anybody may have written.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use axum::http::HeaderMap;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressRange {
    /// Its bits, as IPv6 (IPv4 mapped).
    bits: u128,
    /// How many of them count.
    prefix: u32,
}

/// A range of addresses that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of addresses: write 10.0.0.0/8, fd00::/8 or one address")]
pub struct ParseRangeError(String);

impl FromStr for AddressRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let refuse = || ParseRangeError(text.into());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u32 = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| refuse())?,
            None => width,
        };
        if prefix > width {
            return Err(refuse());
        }
        Ok(Self {
            bits: bits(address),
            prefix: prefix + 128 - width,
        })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from_bits(self.bits), self.prefix)
    }
}

impl AddressRange {
    /// Whether the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = self.bits ^ bits(address);
        // A shift by 128 is none: an empty prefix holds everything.
        differ.checked_shr(128 - self.prefix).unwrap_or(0) == 0
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of the client.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[AddressRange]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let mut listed: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    while let Some(last) = listed.pop() {
        let Ok(address) = last.trim().parse::<IpAddr>() else {
            return client;
        };
        client = address.to_canonical();
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

/// Whether the client came by HTTPS, as a trusted proxy says.
pub fn came_by_https(peer: IpAddr, headers: &HeaderMap, trusted: &[AddressRange]) -> bool {
    let peer = peer.to_canonical();
    trusted.iter().any(|range| range.contains(peer))
        && headers
            .get("x-forwarded-proto")
            .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(peer: &str, forwarded: &str, trusted: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded.parse().unwrap());
        let trusted: Vec<AddressRange> = trusted
            .split_whitespace()
            .map(|range| range.parse().unwrap())
            .collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn forwarded_addresses_count_only_behind_trusted_proxies() {
        assert_eq!(ask("203.0.113.9", "1.2.3.4", ""), "203.0.113.9");
        assert_eq!(ask("203.0.113.9", "1.2.3.4", "10.0.0.0/8"), "203.0.113.9");
        assert_eq!(ask("10.1.2.3", "1.2.3.4", "10.0.0.0/8"), "1.2.3.4");
        assert_eq!(
            ask("10.1.2.3", "6.6.6.6, 1.2.3.4, 10.9.9.9", "10.0.0.0/8"),
            "1.2.3.4"
        );
        assert_eq!(
            ask("10.1.2.3", "1.2.3.4, rubbish", "10.0.0.0/8"),
            "10.1.2.3"
        );
        assert_eq!(ask("::ffff:10.1.2.3", "1.2.3.4", "10.0.0.0/8"), "1.2.3.4");
        assert_eq!(ask("fd00::1", "2001:db8::1", "fd00::/8"), "2001:db8::1");
    }

    #[test]
    fn ranges_are_read_strictly() {
        assert!(
            "0.0.0.0/0"
                .parse::<AddressRange>()
                .unwrap()
                .contains("9.9.9.9".parse().unwrap())
        );
        assert!(
            !"0.0.0.0/0"
                .parse::<AddressRange>()
                .unwrap()
                .contains("2001::1".parse().unwrap())
        );
        assert!(
            "::/0"
                .parse::<AddressRange>()
                .unwrap()
                .contains("9.9.9.9".parse().unwrap())
        );
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "x", "10.0.0.0/-1"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad:?} was taken");
        }
    }
}
