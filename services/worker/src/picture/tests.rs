use image::{Rgb, RgbImage, Rgba, RgbaImage};

use super::*;

const RED: [u8; 3] = [220, 20, 20];
const GREEN: [u8; 3] = [20, 200, 20];
const BLUE: [u8; 3] = [20, 20, 220];
const WHITE: [u8; 3] = [240, 240, 240];

/// Red, green; blue, white: each corner another colour, wider than high.
fn corners(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb(match (x < width / 2, y < height / 2) {
            (true, true) => RED,
            (false, true) => GREEN,
            (true, false) => BLUE,
            (false, false) => WHITE,
        })
    })
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A JPEG with an EXIF block that names an orientation.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01".to_vec();
    // Tag 0x0112, a SHORT, one of them, in the upper half of the value.
    exif.extend_from_slice(&[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    exif.extend_from_slice(&[0; 4]);
    let mut out = jpeg[..2].to_vec();
    out.extend_from_slice(&[0xff, 0xe1]);
    out.extend_from_slice(&(exif.len() as u16 + 2).to_be_bytes());
    out.extend_from_slice(&exif);
    out.extend_from_slice(&jpeg[2..]);
    out
}

/// A JPEG that carries another, whole one in a segment, as cameras make them.
fn with_embedded(jpeg: &[u8]) -> Vec<u8> {
    let inner = encoded(&corners(16, 16).into(), ImageFormat::Jpeg);
    let mut out = jpeg[..2].to_vec();
    out.extend_from_slice(&[0xff, 0xe5]);
    out.extend_from_slice(&(inner.len() as u16 + 2).to_be_bytes());
    out.extend_from_slice(&inner);
    out.extend_from_slice(&jpeg[2..]);
    out
}

fn decode(picture: &Picture) -> DynamicImage {
    image::load_from_memory(&picture.bytes).unwrap()
}

/// The colours in the corners: upper left, upper right, lower left, lower right.
fn corner_colours(image: &DynamicImage) -> [[u8; 3]; 4] {
    let rgb = image.to_rgb8();
    let (w, h) = rgb.dimensions();
    let near = |x: u32, y: u32| {
        let found = rgb.get_pixel(x, y).0;
        let distance = |c: &[u8; 3]| -> i32 {
            c.iter()
                .zip(found)
                .map(|(a, b)| (i32::from(*a) - i32::from(b)).abs())
                .sum()
        };
        [RED, GREEN, BLUE, WHITE]
            .into_iter()
            .min_by_key(distance)
            .unwrap()
    };
    let (left, right, top, bottom) = (w / 4, w * 3 / 4, h / 4, h * 3 / 4);
    [
        near(left, top),
        near(right, top),
        near(left, bottom),
        near(right, bottom),
    ]
}

#[test]
fn a_thumbnail_keeps_the_aspect_ratio_in_its_box() {
    let jpeg = encoded(&corners(1_024, 512).into(), ImageFormat::Jpeg);
    let picture = make_thumbnail(&jpeg).unwrap();
    assert_eq!(picture.mime, "image/jpeg");
    let small = decode(&picture);
    assert_eq!((small.width(), small.height()), (256, 128));
    assert_eq!(corner_colours(&small), [RED, GREEN, BLUE, WHITE]);
}

#[test]
fn a_small_image_is_not_blown_up() {
    let png = encoded(&corners(40, 20).into(), ImageFormat::Png);
    let small = decode(&make_thumbnail(&png).unwrap());
    assert_eq!((small.width(), small.height()), (40, 20));
}

#[test]
fn a_very_long_image_keeps_a_pixel_of_width() {
    let png = encoded(&corners(2, 9_000).into(), ImageFormat::Png);
    let small = decode(&make_thumbnail(&png).unwrap());
    assert_eq!((small.width(), small.height()), (1, 256));
}

#[test]
fn all_eight_orientations_are_applied() {
    let jpeg = encoded(&corners(640, 320).into(), ImageFormat::Jpeg);
    let expected = [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (7, [WHITE, GREEN, BLUE, RED]),
        (8, [GREEN, WHITE, RED, BLUE]),
    ];
    for (orientation, colours) in expected {
        let turned = with_orientation(&jpeg, orientation);
        let small = decode(&make_thumbnail(&turned).unwrap());
        assert_eq!(corner_colours(&small), colours, "orientation {orientation}");
        let size = if orientation < 5 {
            (256, 128)
        } else {
            (128, 256)
        };
        assert_eq!(
            (small.width(), small.height()),
            size,
            "orientation {orientation}"
        );
    }
}

#[test]
fn transparency_is_kept_as_png_and_opaque_alpha_is_not_worth_it() {
    let mut image = RgbaImage::from_pixel(600, 300, Rgba([10, 200, 30, 255]));
    let opaque = encoded(&image.clone().into(), ImageFormat::Png);
    assert_eq!(make_thumbnail(&opaque).unwrap().mime, "image/jpeg");
    for (x, _, pixel) in image.enumerate_pixels_mut() {
        if x < 300 {
            *pixel = Rgba([0, 0, 0, 0]);
        }
    }
    let picture = make_thumbnail(&encoded(&image.into(), ImageFormat::Png)).unwrap();
    assert_eq!(picture.mime, "image/png");
    let small = decode(&picture).to_rgba8();
    assert_eq!(small.get_pixel(10, 60).0[3], 0);
    assert_eq!(small.get_pixel(240, 60).0, [10, 200, 30, 255]);
}

#[test]
fn webp_and_gif_and_deep_png_are_read() {
    let image: DynamicImage = corners(512, 512).into();
    let deep = DynamicImage::ImageRgb16(image.to_rgb16());
    for (source, name) in [
        (encoded(&image, ImageFormat::WebP), "webp"),
        (encoded(&image, ImageFormat::Gif), "gif"),
        (encoded(&deep, ImageFormat::Png), "16-bit png"),
    ] {
        let picture = make_thumbnail(&source).unwrap();
        assert_eq!(picture.mime, "image/jpeg", "{name}");
        assert_eq!(
            corner_colours(&decode(&picture)),
            [RED, GREEN, BLUE, WHITE],
            "{name}"
        );
    }
}

#[test]
fn of_an_animation_the_first_frame_is_taken() {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
    for colour in [RED, BLUE] {
        let [r, g, b] = colour;
        let frame = RgbaImage::from_pixel(300, 300, Rgba([r, g, b, 255]));
        encoder.encode_frame(image::Frame::new(frame)).unwrap();
    }
    drop(encoder);
    assert_eq!(
        corner_colours(&decode(&make_thumbnail(&bytes).unwrap())),
        [RED; 4]
    );
}

/// A PNG whose header declares a size, with almost nothing behind it.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut png = encoded(&corners(4, 4).into(), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    png
}

/// CRC-32 of the PNG specification, annex D, bit by bit.
fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_bomb_costs_its_header() {
    for (width, height) in [(60_000, 60_000), (10_001, 10_000), (u32::MAX >> 1, 1)] {
        let error = make_thumbnail(&bomb(width, height)).unwrap_err();
        assert!(
            matches!(
                error,
                PictureError::TooManyPixels { .. } | PictureError::TooLarge
            ),
            "{width} x {height}: {error}"
        );
    }
    // Few enough pixels, and too many bytes: three to each.
    let error = make_thumbnail(&bomb(10_000, 9_900)).unwrap_err();
    assert!(matches!(error, PictureError::TooLarge), "{error}");
}

#[test]
fn what_is_cut_off_or_no_image_is_refused_in_a_sentence() {
    let jpeg = encoded(&corners(800, 600).into(), ImageFormat::Jpeg);
    let png = encoded(&corners(800, 600).into(), ImageFormat::Png);
    let (webp, gif) = {
        let image: DynamicImage = corners(800, 600).into();
        (
            encoded(&image, ImageFormat::WebP),
            encoded(&image, ImageFormat::Gif),
        )
    };
    let thumbnailed = with_embedded(&jpeg);
    assert!(make_thumbnail(&thumbnailed).is_ok());
    for cut in [
        &jpeg[..100],
        &jpeg[..jpeg.len() / 2],
        &thumbnailed[..thumbnailed.len() - 500],
        &png[..png.len() / 2],
        &png[..30],
        &jpeg[..3],
        &webp[..webp.len() / 2],
        &gif[..gif.len() / 2],
    ] {
        let error = make_thumbnail(cut).unwrap_err();
        assert!(matches!(error, PictureError::Damaged(_)), "{error}");
    }
    for other in [
        &b"this text is named photo.jpg"[..],
        b"",
        b"BM\0\0",
        b"%PDF-1.7",
        b"<svg/>",
    ] {
        let error = make_thumbnail(other).unwrap_err();
        assert!(matches!(error, PictureError::NotSupported), "{error}");
    }
}

#[test]
fn random_bytes_behind_a_good_beginning_end_no_process() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Gif,
    ] {
        let good = encoded(&corners(64, 48).into(), format);
        for _ in 0..200 {
            let mut bad = good.clone();
            for _ in 0..3 {
                let at = (random() as usize) % bad.len();
                bad[at] = random() as u8;
            }
            // A flipped bit may still be an image; it must not be a panic.
            let _ = make_thumbnail(&bad);
        }
    }
}
