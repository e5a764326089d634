//! Machines get power and lose it; what their disks go through with it.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};

use holdfast_blobs::EngineSettings;
use holdfast_metadata::log::LogSettings;
use holdfast_node::node::NodeHandler;
use holdfast_node::{Node, NodeParts};
use holdfast_runtime::memory_disk::{AlteredDisk, MemoryDisk};
use holdfast_runtime::{Fatal, Shutdown};
use tokio_util::sync::CancellationToken;

use super::{DISK_BYTES, RESERVE_BYTES, World};
use crate::machine::{Machine, MachineClock};
use crate::points::AtPoint;

impl World {
    /// Gives a machine power and starts its node.
    ///
    /// # Errors
    /// Why the node did not start.
    pub async fn start(&mut self, number: usize) -> Result<(), String> {
        // A disk that has stopped takes nothing until its power is cut.
        let stopped = self.members.get(&number).is_some_and(|m| m.disk.is_cut());
        if self.points.take_dark(number) || stopped {
            self.power_cut(number);
        }
        let seeds = self.addresses();
        let power = CancellationToken::new();
        let clock = Arc::new(MachineClock::new(self.start));
        let controller = self.controller.clone();
        let member = self.members.get(&number).ok_or("no such machine")?;
        let (address, disk) = (member.address.clone(), member.disk.clone());
        let supports = member.supports;
        let disk_millis = Arc::new(AtomicU64::new(self.max_disk_millis));
        let shutdown = Shutdown::default();
        let at_point = self.point_cutter(number, &disk, &power);
        let told = AlteredDisk::new(disk.clone()).told({
            let (power, at_point) = (power.clone(), at_point.clone());
            move |point| {
                if !power.is_cancelled() {
                    at_point(point);
                }
            }
        });
        let env = self.env_with_disk(
            address.clone(),
            power.clone(),
            clock.clone(),
            disk_millis.clone(),
            Some(at_point),
        );
        let (fatal, ended) = (member.fatal.clone(), member.fatal.clone());
        *fatal.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (cut, trace) = (power.clone(), self.trace.clone());
        disk.when_cut({
            let power = power.clone();
            move || power.cancel()
        });
        let starting = Node::start(NodeParts {
            env,
            disk: Arc::new(told),
            address: address.clone(),
            seeds,
            zone: Some(format!("zone-{number}")),
            host: None,
            supports,
            engine: EngineSettings {
                segment_bytes: self.segment_bytes,
                reserve_bytes: Some(RESERVE_BYTES),
            },
            log: LogSettings {
                file_bytes: self.log_file_bytes,
            },
            controller,
            limits: Default::default(),
            on_fatal: Arc::new(move |reason: Fatal| {
                if cut.is_cancelled() {
                    // Without power nobody says anything.
                    return;
                }
                trace.tell(&format!("node {number} ends itself: {reason}"));
                let mut fatal = fatal.lock().unwrap_or_else(PoisonError::into_inner);
                fatal.get_or_insert(reason.to_string());
                cut.cancel();
            }),
            shutdown: shutdown.clone(),
        });
        // A machine may lose power before its node has started.
        let started = tokio::select! {
            biased;
            started = starting => Some(started),
            () = power.cancelled() => None,
        };
        if power.is_cancelled() {
            let fatal = ended.lock().unwrap_or_else(PoisonError::into_inner);
            return fatal.clone().map_or(Ok(()), Err);
        }
        let node = match started {
            Some(Ok(node)) => node,
            Some(Err(error)) => {
                // The process ends, with whatever it has begun.
                power.cancel();
                return Err(error.to_string());
            }
            None => return Ok(()),
        };
        self.network
            .listen(address, Arc::new(NodeHandler(node.clone())), power.clone());
        if let Some(member) = self.members.get_mut(&number) {
            member.machine = Some(Machine {
                power,
                clock,
                disk_millis,
                shutdown,
            });
            member.node = Some(node);
        }
        Ok(())
    }

    /// What a machine does when it passes a point: it may lose power there, and
    /// then its disk takes nothing any more.
    fn point_cutter(&self, number: usize, disk: &MemoryDisk, power: &CancellationToken) -> AtPoint {
        let (points, trace) = (self.points.clone(), self.trace.clone());
        let (disk, power) = (disk.clone(), power.clone());
        Arc::new(move |point| {
            if points.pass(number, point) {
                trace.tell(&format!("node {number} loses power at {point}"));
                disk.cut_after(0);
                power.cancel();
            }
        })
    }

    /// Cuts a machine's power: its tasks end where they are, and its disk loses
    /// what was not synced.
    pub fn power_cut(&mut self, number: usize) {
        self.trace.tell(&format!("power cut of node {number}"));
        self.points.take_dark(number);
        if let Some(member) = self.members.get_mut(&number) {
            member.keep_starts();
            if let Some(machine) = member.machine.take() {
                machine.power.cancel();
            }
            member.disk.power_cut();
            member.node = None;
        }
    }

    /// Kills a node's process: its tasks end where they are, and what it wrote
    /// stays as it is, synced or not.
    pub fn kill(&mut self, number: usize) {
        if self.points.take_dark(number) {
            return self.power_cut(number);
        }
        self.trace.tell(&format!("node {number} is killed"));
        if let Some(member) = self.members.get_mut(&number) {
            member.keep_starts();
            if let Some(machine) = member.machine.take() {
                machine.power.cancel();
            }
            member.disk.end_process();
            member.node = None;
        }
    }

    /// Gives a machine an empty disk in place of its own.
    pub fn replace_disk(&mut self, number: usize) {
        self.trace
            .tell(&format!("node {number} gets an empty disk"));
        let seed = self.disk_seed(number);
        self.insert_disk(number, MemoryDisk::new(DISK_BYTES, seed));
    }

    fn disk_seed(&self, number: usize) -> u64 {
        let disks = self.members.get(&number).map_or(1, |m| m.disks + 1);
        self.seed ^ (number as u64) << 32 ^ disks << 48
    }

    /// Gives a machine another disk; it has no power then.
    pub fn insert_disk(&mut self, number: usize, disk: MemoryDisk) {
        self.points.take_dark(number);
        if let Some(member) = self.members.get_mut(&number) {
            member.keep_starts();
            if let Some(machine) = member.machine.take() {
                machine.power.cancel();
            }
            member.disk.power_cut();
            member.node = None;
            member.starts.clear();
            member.disks += 1;
            member.disk = disk;
        }
    }

    /// A copy of a machine's disk as it is now.
    pub fn copy_disk(&self, number: usize) -> Option<MemoryDisk> {
        let member = self.members.get(&number)?;
        Some(member.disk.copy(self.disk_seed(number)))
    }
}
