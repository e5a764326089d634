//! Pictures and their thumbnails.

use std::io::Cursor;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::content::{noise, picture};
use holdfast_e2e::dev::{Answer, Dev, Part, text};
use holdfast_e2e::wait::until;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageEncoder, ImageFormat, Rgb, RgbImage};
use reqwest::Method;

use crate::SETTLE;

/// A JPEG whose upper half is red once it is turned by the EXIF orientation 6
/// (a quarter to the right): stored, its left half is.
fn turned() -> Result<Vec<u8>> {
    let stored = RgbImage::from_fn(800, 400, |x, _| match x < 400 {
        true => Rgb([230, 20, 20]),
        false => Rgb([20, 20, 230]),
    });
    // TIFF, little-endian: one entry, 0x0112, SHORT, 1 value, 6 (EXIF 2.3, 4.6.4).
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    encoder.set_exif_metadata(exif.to_vec())?;
    encoder.encode_image(&DynamicImage::ImageRgb8(stored))?;
    Ok(bytes)
}

async fn thumbnail(dev: &Dev, id: &str) -> Result<DynamicImage> {
    let bytes = until("the thumbnail is made", SETTLE, async || {
        dev.gateway.thumbnail(id).await
    })
    .await?;
    Ok(image::load_from_memory(&bytes)?)
}

pub async fn good_pictures_get_upright_thumbnails(dev: &Dev) -> Result<()> {
    let formats = [
        ("a.jpg", ImageFormat::Jpeg),
        ("a.png", ImageFormat::Png),
        ("a.webp", ImageFormat::WebP),
        ("a.gif", ImageFormat::Gif),
        // What it is, its content says.
        ("no-name", ImageFormat::Png),
    ];
    for (name, format) in formats {
        let bytes = picture(11, 900, 300, format)?;
        let id = text(&dev.put(name, bytes.clone()).await?, "file_id")?;
        let small = thumbnail(dev, &id).await.context(name)?;
        let size = (small.width(), small.height());
        ensure!(size == (256, 85), "{name}: {size:?}");
        dev.gateway.expect(&id, &bytes).await?;
        let file = dev.gateway.json(&format!("/api/files/{id}")).await?;
        ensure!(file["has_thumbnail"] == true, "{file}");
    }
    let id = text(&dev.put("turned.jpg", turned()?).await?, "file_id")?;
    let small = thumbnail(dev, &id).await?.to_rgb8();
    ensure!(small.dimensions() == (128, 256), "{:?}", small.dimensions());
    let (top, bottom) = (small.get_pixel(64, 30), small.get_pixel(64, 220));
    ensure!(top[0] > 180 && top[2] < 80, "above is {top:?}");
    ensure!(bottom[2] > 180 && bottom[0] < 80, "below is {bottom:?}");
    Ok(())
}

/// A PNG that declares so many pixels and holds none: 100 bytes.
fn declares(width: u32, height: u32) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [
        (b"IHDR", header.as_slice()),
        (b"IDAT", &[0x78, 0x9c]),
        (b"IEND", &[]),
    ] {
        let named = [kind.as_slice(), data].concat();
        png.extend_from_slice(&(data.len() as u32).to_be_bytes());
        png.extend_from_slice(&named);
        png.extend_from_slice(&crc32(&named).to_be_bytes());
    }
    png
}

/// The CRC of PNG (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

pub async fn bad_pictures_end_as_failed_tasks_with_a_reason(dev: &Dev) -> Result<()> {
    let jpeg = picture(12, 1_200, 800, ImageFormat::Jpeg)?;
    let png = picture(13, 600, 400, ImageFormat::Png)?;
    let bad = [
        ("bomb.png", declares(60_000, 60_000), "60000 x 60000 pixels"),
        ("cut.jpg", jpeg[..jpeg.len() / 2].to_vec(), "damaged"),
        ("cut.png", png[..png.len() / 2].to_vec(), "damaged"),
        ("text.jpg", noise(14, 50_000), "no image"),
    ];
    for (name, bytes, reason) in bad {
        let form = dev.form(&[
            Part::Field("download_limit", "0"),
            Part::File("file", name.as_bytes(), "image/jpeg", &bytes),
        ]);
        let id = text(&Answer::of(form).await?.json(201)?, "file_id")?;
        let task = until("its task fails", SETTLE, async || {
            let tasks = dev
                .gateway
                .json("/api/tasks?status=failed&limit=500")
                .await?;
            let all = tasks["tasks"].as_array().context("no tasks")?;
            let of_file = all.iter().find(|task| task["file_id"] == id);
            of_file.cloned().context("its task has not failed")
        })
        .await
        .context(name)?;
        ensure!(task["kind"] == "thumbnail", "{task}");
        ensure!(text(&task, "error")?.contains(reason), "{name}: {task}");
        ensure!(
            task["attempts"]
                .as_u64()
                .is_some_and(|n| (1..=3).contains(&n)),
            "{task}"
        );
        dev.gateway.expect(&id, &bytes).await?;
        let path = format!("/api/files/{id}/thumbnail");
        let told = Answer::of(dev.ask(Method::GET, &path))
            .await?
            .problem(404, "thumbnail_failed")?;
        ensure!(told.contains(reason), "{name}: {told}");
    }
    let id = text(&dev.put("plain.txt", "no picture").await?, "file_id")?;
    let path = format!("/api/files/{id}/thumbnail");
    Answer::of(dev.ask(Method::GET, &path))
        .await?
        .problem(404, "no_thumbnail")?;
    // The worker goes on.
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::new(300, 300).write_to(&mut bytes, ImageFormat::Png)?;
    let id = text(&dev.put("after.png", bytes.into_inner()).await?, "file_id")?;
    thumbnail(dev, &id).await?;
    Ok(())
}
