//! Thumbnails: a small picture of an image, from bytes to bytes.
//!
//! What the image is, its content says and not its name. Nothing is decoded
//! before its header has been held against the limits, so that a small file
//! that unfolds into a large image costs its header.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

/// The box that a thumbnail fits into, in pixels.
pub const BOX_PIXELS: u32 = 256;
/// The most pixels an image may declare: cameras stay below.
pub const MAX_PIXELS: u64 = 100_000_000;
/// The most memory that a decoded image, and its decoder, may take.
pub const MAX_DECODED_BYTES: u64 = 256 << 20;
/// Of an image of 256 pixels a higher quality is not seen.
const JPEG_QUALITY: u8 = 80;

/// Why there is no thumbnail. Trying again gives the same.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Not one of the formats, whatever its name says.
    #[error("the content is no image of a supported format (JPEG, PNG, WebP or GIF)")]
    NotSupported,
    /// It begins like an image and is none.
    #[error("the image is damaged or cut off: {0}")]
    Damaged(String),
    /// It has no pixels.
    #[error("the image has no pixels")]
    Empty,
    /// It declares too many pixels.
    #[error("the image declares {width} x {height} pixels; at most {MAX_PIXELS} are decoded")]
    TooManyPixels {
        /// As declared.
        width: u32,
        /// As declared.
        height: u32,
    },
    /// It would take too much memory.
    #[error("the image needs more than {} MiB of memory to be decoded", MAX_DECODED_BYTES >> 20)]
    TooLarge,
    /// The small picture cannot be written.
    #[error("the thumbnail cannot be encoded: {0}")]
    Encode(String),
}

/// A small picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Encoded.
    pub bytes: Bytes,
    /// `image/jpeg`, or `image/png` where something is transparent.
    pub mime: &'static str,
}

/// How much memory the decoded image takes, by its header alone.
pub fn decoded_bytes(source: &[u8]) -> Result<u64, PictureError> {
    Ok(open(source)?.total_bytes())
}

/// Makes a thumbnail. Blocks for as long as decoding takes.
pub fn make_thumbnail(source: &[u8]) -> Result<Picture, PictureError> {
    let mut decoder = open(source)?;
    // An orientation that cannot be read is none.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let full = DynamicImage::from_decoder(decoder).map_err(refuse)?;
    let fits = full.width() <= BOX_PIXELS && full.height() <= BOX_PIXELS;
    let mut small = if fits {
        full
    } else {
        full.thumbnail(BOX_PIXELS, BOX_PIXELS)
    };
    // Only now: turning the full image would take its memory twice.
    small.apply_orientation(orientation);
    encode(&small)
}

/// A decoder of the source, once its header is within the limits.
fn open(source: &[u8]) -> Result<impl ImageDecoder + '_, PictureError> {
    let mut reader = ImageReader::new(Cursor::new(source))
        .with_guessed_format()
        .map_err(|error| PictureError::Damaged(error.to_string()))?;
    match reader.format() {
        Some(ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Gif) => {}
        _ => return Err(PictureError::NotSupported),
    }
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_ends(source) {
        return Err(PictureError::Damaged("it has no end".into()));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(refuse)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(PictureError::Empty);
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PictureError::TooManyPixels { width, height });
    }
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(PictureError::TooLarge);
    }
    Ok(decoder)
}

/// Whether a JPEG has an end-of-image marker behind its pixels: the decoder
/// fills what is missing with grey, which is no thumbnail of anything. Other
/// JPEGs may lie in the segments before, so those are stepped over (ITU T.81,
/// B.1); among the pixels 0xff 0xd9 is nothing else.
fn jpeg_ends(source: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut rest = source.get(2..).unwrap_or_default();
    while let [0xff, marker, after @ ..] = rest {
        match (marker, after) {
            // A fill byte.
            (0xff, _) => rest = rest.get(1..).unwrap_or_default(),
            (&START_OF_SCAN, _) => return after.windows(2).any(|pair| pair == [0xff, 0xd9]),
            (_, [high, low, ..]) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = after.get(length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

fn refuse(error: ImageError) -> PictureError {
    match error {
        ImageError::Limits(_) => PictureError::TooLarge,
        other => PictureError::Damaged(other.to_string()),
    }
}

fn encode(small: &DynamicImage) -> Result<Picture, PictureError> {
    let mut bytes = Vec::new();
    let rgba = small.to_rgba8();
    let transparent = rgba.pixels().any(|pixel| pixel.0.last() != Some(&u8::MAX));
    let (written, mime) = if transparent {
        let encoder = PngEncoder::new(&mut bytes);
        (rgba.write_with_encoder(encoder), "image/png")
    } else {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        (small.to_rgb8().write_with_encoder(encoder), "image/jpeg")
    };
    written.map_err(|error| PictureError::Encode(error.to_string()))?;
    Ok(Picture {
        bytes: bytes.into(),
        mime,
    })
}

#[cfg(test)]
mod tests;
