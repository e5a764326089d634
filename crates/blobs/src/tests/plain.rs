//! A file system that knows neither holes nor reservations.

use std::io;
use std::sync::Arc;

use holdfast_runtime::disk::File;
use holdfast_runtime::memory_disk::AlteredDisk;

use super::world::*;

#[tokio::test]
async fn a_file_system_without_holes_costs_room_and_nothing_else() {
    let disk = disk();
    for round in 0..4 {
        let plain = AlteredDisk::new(disk.clone()).with_files(|file| Arc::new(PlainFile(file)));
        let (engine, _) = try_open(Arc::new(plain), round, SETTINGS).await.unwrap();
        let report = engine.report();
        assert_eq!((report.damaged, report.corrupt, report.torn), (0, 0, 0));
        assert_eq!(report.fragments, round * 5);
        for number in round * 10..round * 10 + 10 {
            put(&engine, number, 200_000).await.unwrap();
        }
        for number in round * 10..round * 10 + 5 {
            engine.delete(id(number)).await.unwrap();
        }
        for entry in listed(&engine, 100).await {
            engine.verify(entry.id).await.unwrap();
        }
        disk.power_cut();
    }
}

struct PlainFile(Arc<dyn File>);

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

impl File for PlainFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        unsupported()
    }
    fn punch_hole(&self, _: u64, _: u64) -> io::Result<()> {
        unsupported()
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
