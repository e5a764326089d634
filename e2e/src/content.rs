//! Bytes that are the same on every run and cannot be guessed from a part of them.

use std::io::Cursor;

use anyhow::Result;
use image::{ImageFormat, Rgb, RgbImage};

/// xorshift64* (Vigna, 2014): fast, and incompressible enough.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// `len` bytes of the noise numbered `seed`.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut source = Noise(seed.wrapping_mul(2).wrapping_add(1));
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&source.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A picture of noise over a gradient, different for each seed.
pub fn picture(seed: u64, width: u32, height: u32, format: ImageFormat) -> Result<Vec<u8>> {
    let mut source = Noise(seed.wrapping_mul(2).wrapping_add(1));
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let grain = (source.next() >> 59) as u8;
        Rgb([
            (x * 200 / width.max(1)) as u8 + grain,
            (y * 200 / height.max(1)) as u8 + grain,
            (seed % 200) as u8 + grain,
        ])
    });
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format)?;
    Ok(bytes.into_inner())
}
