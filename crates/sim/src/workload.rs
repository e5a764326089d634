//! Clients that put, read back, list, delete and count downloads, through the
//! same crate as gateways do, and write down what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use holdfast_client::{
    Cluster, ClusterError, MemoryBudget, ObjectTarget, ObjectWriter, read_object,
};
use holdfast_metadata::command::{
    ByteSpan, Command, Condition, DeleteCause, Outcome, PutObject, Refusal, RequestEnd,
};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::record::{Content, DownloadLimit, INLINE_LIMIT_BYTES};
use holdfast_model::{BucketId, GroupId, ObjectKey, ObjectRecord, TicketId, Timestamp, VersionId};
use tokio_util::sync::CancellationToken;

use crate::history::Action;
use crate::journal::{Journal, Written};

/// How long a client waits for a command or a question.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a client waits for bytes before it gives up.
const BODY_LIMIT: Duration = Duration::from_secs(60);
/// Keys that all clients share: few, so that they meet.
const SHARED_KEYS: u64 = 14;
/// Keys with a download limit.
const LIMITED_KEYS: u64 = 5;
/// The largest object.
const MAX_CHUNKED_BYTES: u64 = 900 << 10;
/// Lifetime of objects that expire: longer than any run, and shorter than what
/// a wrong clock is off by.
const LIFETIME_MILLIS: u64 = 30 * 60 * 1_000;
/// Memory of a client's bodies.
const BUDGET_BYTES: u64 = 64 << 20;

/// One client.
pub struct Client {
    /// Its number.
    pub number: usize,
    cluster: Cluster,
    journal: Journal,
    budget: Arc<MemoryBudget>,
    bucket: BucketId,
}

/// A key of some kind.
fn key(kind: &str, number: u64) -> Option<ObjectKey> {
    ObjectKey::new(format!("{kind}-{number}")).ok()
}

impl Client {
    /// A client of a cluster that is ready.
    pub fn new(number: usize, cluster: Cluster, journal: Journal) -> Option<Self> {
        let bucket = cluster.state()?.bucket("files")?.id;
        Some(Self {
            number,
            cluster,
            journal,
            budget: MemoryBudget::new(BUDGET_BYTES),
            bucket,
        })
    }

    /// Works until `stop` is cancelled, then sets `done`.
    pub async fn work(self, stop: CancellationToken, done: Arc<AtomicBool>, pause: Duration) {
        while !stop.is_cancelled() {
            self.one().await;
            let time = Duration::from_millis(self.below(pause.as_millis() as u64));
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.cluster.env().clock.sleep(time) => {}
            }
        }
        done.store(true, Ordering::Relaxed);
    }

    fn below(&self, bound: u64) -> u64 {
        self.cluster.env().entropy.below(bound)
    }

    async fn one(&self) {
        let Some(shared) = key("shared", self.below(SHARED_KEYS)) else {
            return;
        };
        match self.below(100) {
            0..20 => {
                let size = self.below(2_000);
                self.put(&shared, size, None).await;
            }
            20..38 => {
                let size = INLINE_LIMIT_BYTES + 1 + self.below(MAX_CHUNKED_BYTES);
                self.put(&shared, size, None).await;
            }
            38..68 => self.read(&shared).await,
            68..78 => self.delete(&shared).await,
            78..84 => self.list().await,
            84..87 => {
                let limit = 1 + self.below(3) as u32;
                if let Some(key) = key("limited", self.below(LIMITED_KEYS)) {
                    self.put_limited(&key, limit).await;
                }
            }
            _ => {
                if let Some(key) = key("limited", self.below(LIMITED_KEYS)) {
                    self.download(&key).await;
                }
            }
        }
    }

    fn tell(&self, what: &str) {
        self.journal
            .trace()
            .tell(&format!("client {} {what}", self.number));
    }

    /// Puts an object and notes what came of it.
    pub async fn put(&self, key: &ObjectKey, size: u64, limit: Option<u32>) {
        let version = VersionId::from_bytes(self.cluster.env().entropy.id());
        let written = self.journal.new_value(version, size as usize);
        let absent = limit.is_some() || self.below(5) == 0;
        let condition = if absent {
            Condition::Absent
        } else {
            Condition::Always
        };
        let action = if absent {
            Action::PutAbsent(written.value)
        } else {
            Action::Put(written.value)
        };
        let called = self.journal.tick();
        let result = self.try_put(key, version, written, condition, limit).await;
        let name = key.as_str();
        let Written { value, .. } = written;
        self.tell(&format!(
            "put {name} value {value} of {size}: {}",
            said(&result)
        ));
        let counted = limit.is_none();
        match result {
            Ok(()) => {
                self.journal.count(|counts| counts.puts += 1);
                if counted {
                    self.journal.note(key, self.number, called, true, action);
                }
            }
            Err(ClusterError::OutcomeUnknown { .. }) => {
                self.journal.count(|counts| counts.unknown += 1);
                if counted {
                    self.journal.note(key, self.number, called, false, action);
                }
            }
            Err(error) => {
                self.journal.count(|counts| counts.failed += 1);
                if let ClusterError::Refused(Refusal::Invalid(why)) = error {
                    self.wrong(format!("a put of {name} is refused as senseless: {why}"));
                }
            }
        }
    }

    fn wrong(&self, what: String) {
        self.journal
            .trace()
            .wrong(format!("client {}: {what}", self.number));
    }

    async fn try_put(
        &self,
        key: &ObjectKey,
        version: VersionId,
        written: Written,
        condition: Condition,
        limit: Option<u32>,
    ) -> Result<(), ClusterError> {
        let state = self.cluster.require_state()?;
        let group = self.cluster.group_of(self.bucket, key)?;
        let env = self.cluster.env();
        let target = ObjectTarget {
            bucket: self.bucket,
            key: key.clone(),
            version,
            expires: None,
        };
        let budget = self.budget.clone();
        let mut writer = ObjectWriter::new(&self.cluster, target, None, budget);
        let upload = async {
            let mut bytes = written.bytes();
            // Some are slower than what the clean-up waits for.
            let pause = match self.below(12) {
                0 => self.below(12_000),
                _ => 0,
            };
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(200 << 10));
                writer.write(piece).await?;
                env.clock.sleep(Duration::from_millis(pause)).await;
            }
            Ok::<_, ClusterError>(())
        };
        let sent = tokio::time::timeout(BODY_LIMIT, upload)
            .await
            .unwrap_or_else(|_| Err(ClusterError::NotReady("the upload took too long".into())));
        if let Err(error) = sent {
            // As a gateway does, unless it dies.
            if self.below(4) > 0 {
                writer.abort().await;
            }
            return Err(error);
        }
        let stored = tokio::time::timeout(BODY_LIMIT, writer.finish())
            .await
            .map_err(|_| ClusterError::NotReady("the upload took too long".into()))??;
        if stored.generation.is_some() && self.below(14) == 0 {
            // A client that dawdles between its last byte and the commit.
            env.clock
                .sleep(Duration::from_millis(self.below(40_000)))
                .await;
        }
        let expires = self.below(3) == 0;
        let owner = state.access_keys.first().map(|key| key.id);
        let put = PutObject {
            record: ObjectRecord {
                bucket: self.bucket,
                key: key.clone(),
                version,
                owner: owner.ok_or_else(|| ClusterError::NotReady("no access key".into()))?,
                created: Timestamp(0),
                expires: None,
                content: Content {
                    filename: None,
                    mime: "application/octet-stream".into(),
                    size: stored.size,
                    sha256: stored.sha256,
                    etag: version.to_string(),
                    checksums: Default::default(),
                },
                representation: stored.representation,
                downloads: limit.map(|limit| DownloadLimit { limit, left: limit }),
                password: None,
                delete_token: None,
                metadata: Default::default(),
                tags: Default::default(),
                derived: Vec::new(),
                revision: 0,
                fingerprint: None,
                kind: Default::default(),
                headers: Default::default(),
            },
            chunks: stored.chunks,
            generation: stored.generation,
            tasks: Vec::new(),
            condition,
            lifetime_millis: expires.then_some(LIFETIME_MILLIS),
        };
        let command = Command::PutObject(Box::new(put));
        match self.command(group, command).await? {
            Outcome::Put(record) if record.version == version => Ok(()),
            other => {
                self.wrong(format!("a put is answered with {other:?}"));
                Ok(())
            }
        }
    }

    async fn record(
        &self,
        key: &ObjectKey,
    ) -> Result<(GroupId, Option<ObjectRecord>, Timestamp), ClusterError> {
        let group = self.cluster.group_of(self.bucket, key)?;
        let query = Query::Object {
            bucket: self.bucket,
            key: key.clone(),
            chunks: 0,
        };
        match self.cluster.query(group, query, DEADLINE, None).await? {
            Answer::Object { record, now, .. } => Ok((group, record.map(|record| *record), now)),
            other => Err(ClusterError::Internal(format!("{other:?}"))),
        }
    }

    async fn read(&self, key: &ObjectKey) {
        if let Err(error) = self.read_whole(key).await {
            self.journal.count(|counts| counts.failed += 1);
            self.tell(&format!("read {}: {error}", key.as_str()));
        }
    }

    /// Reads an object whole and compares it; answers which value it has.
    ///
    /// # Errors
    /// Why it could not be read; what was read of it was right.
    pub async fn read_whole(&self, key: &ObjectKey) -> Result<Option<u64>, ClusterError> {
        let called = self.journal.tick();
        let (group, record, now) = self.record(key).await?;
        let record = record.filter(|record| !record.expired(now));
        let Some(record) = record else {
            self.journal
                .note(key, self.number, called, true, Action::Read(None));
            self.tell(&format!("read {}: nothing", key.as_str()));
            return Ok(None);
        };
        let Some(written) = self.journal.written(&record.version) else {
            self.wrong(format!("{} has a version nobody wrote", key.as_str()));
            return Ok(None);
        };
        let action = Action::Read(Some(written.value));
        self.journal.note(key, self.number, called, true, action);
        self.compare(key, group, &record, written).await?;
        self.tell(&format!("read {}: value {}", key.as_str(), written.value));
        self.journal.count(|counts| counts.reads += 1);
        Ok(Some(written.value))
    }

    async fn compare(
        &self,
        key: &ObjectKey,
        group: GroupId,
        record: &ObjectRecord,
        written: Written,
    ) -> Result<(), ClusterError> {
        let size = record.content.size;
        // Clients read a part now and then; the judge reads all of it.
        let range = match self.number > 0 && size > 0 && self.below(4) == 0 {
            true => {
                let first = self.below(size);
                first..first + 1 + self.below(size - first)
            }
            false => 0..size,
        };
        let mut pieces = read_object(
            &self.cluster,
            group,
            size,
            &record.representation,
            Vec::new(),
            range.clone(),
            self.budget.clone(),
        );
        let expected = written.bytes();
        let expected = expected.slice(range.start as usize..range.end as usize);
        let mut at = 0;
        let reading = async {
            while let Some(piece) = pieces.next().await {
                let piece = piece?;
                let right = expected.get(at..at + piece.len());
                if right != Some(piece.as_ref()) {
                    self.wrong(format!("{} has wrong bytes from {at} on", key.as_str()));
                    return Ok(());
                }
                at += piece.len();
            }
            if at != expected.len() {
                self.wrong(format!(
                    "{} ended after {at} of {} bytes as if it were whole",
                    key.as_str(),
                    expected.len()
                ));
            }
            Ok(())
        };
        tokio::time::timeout(BODY_LIMIT, reading)
            .await
            .unwrap_or_else(|_| Err(ClusterError::NotReady("the body took too long".into())))
    }

    async fn delete(&self, key: &ObjectKey) {
        let Ok(group) = self.cluster.group_of(self.bucket, key) else {
            return;
        };
        let command = Command::DeleteObject {
            bucket: self.bucket,
            key: key.clone(),
            version: None,
            cause: DeleteCause::Wish,
        };
        let called = self.journal.tick();
        let result = self.command(group, command).await;
        self.tell(&format!("delete {}: {}", key.as_str(), said(&result)));
        let (known, action) = match result {
            Ok(Outcome::Deleted(version)) => match self.journal.written(&version) {
                Some(written) => {
                    self.journal.count(|counts| counts.deletes += 1);
                    (true, Action::Take(written.value))
                }
                None => return self.wrong(format!("a version nobody wrote: {version}")),
            },
            Err(ClusterError::Refused(Refusal::NoSuchObject)) => (true, Action::Read(None)),
            Err(ClusterError::OutcomeUnknown { .. }) => {
                self.journal.count(|counts| counts.unknown += 1);
                (false, Action::Clear)
            }
            Ok(other) => return self.wrong(format!("a delete is answered with {other:?}")),
            Err(_) => return self.journal.count(|counts| counts.failed += 1),
        };
        self.journal.note(key, self.number, called, known, action);
    }

    /// Lists one group: each shared key of it is seen or not.
    async fn list(&self) {
        let keys: Vec<ObjectKey> = (0..SHARED_KEYS).filter_map(|n| key("shared", n)).collect();
        let Some(any) = keys.get(self.below(SHARED_KEYS) as usize) else {
            return;
        };
        let Ok(group) = self.cluster.group_of(self.bucket, any) else {
            return;
        };
        let query = Query::List {
            bucket: self.bucket,
            owner: None,
            after: None,
            limit: 1_000,
        };
        let called = self.journal.tick();
        let answer = self.cluster.query(group, query, DEADLINE, None).await;
        let Ok(Answer::Listing { records, more, .. }) = answer else {
            self.tell(&format!("list {group}: {}", said(&answer)));
            return self.journal.count(|counts| counts.failed += 1);
        };
        if more {
            self.wrong("a short listing claims to have more".into());
        }
        self.tell(&format!("list {group}: {} objects", records.len()));
        self.journal.count(|counts| counts.listings += 1);
        for key in keys {
            if self.cluster.group_of(self.bucket, &key).ok() != Some(group) {
                continue;
            }
            let record = records.iter().find(|record| record.key == key);
            let value = record.and_then(|record| self.journal.written(&record.version));
            let action = Action::Read(value.map(|written| written.value));
            self.journal.note(&key, self.number, called, true, action);
        }
    }

    /// Puts an object with a limit under a key of its own number: the limit is
    /// known before anybody can download it.
    async fn put_limited(&self, key: &ObjectKey, limit: u32) {
        if self.journal.claim_limited(key, limit) {
            self.put(key, 500, Some(limit)).await;
        }
    }

    async fn download(&self, key: &ObjectKey) {
        let Ok((group, Some(record), _)) = self.record(key).await else {
            return;
        };
        let ticket = TicketId::from_bytes(self.cluster.env().entropy.id());
        let range = ByteSpan {
            first: 0,
            end: record.content.size,
        };
        let name = key.as_str();
        let reserve = Command::ReserveDownload {
            bucket: self.bucket,
            key: key.clone(),
            version: record.version,
            ticket,
            range,
        };
        let reserved = self.command(group, reserve).await;
        self.tell(&format!("reserve {name}: {}", said(&reserved)));
        match reserved {
            Ok(Outcome::Reserved { .. }) => {}
            Err(ClusterError::Refused(Refusal::Invalid(why))) => {
                return self.wrong(format!("a reservation of {name} is senseless: {why}"));
            }
            _ => return,
        }
        let end = |end| Command::EndRequest {
            bucket: self.bucket,
            key: key.clone(),
            ticket,
            range,
            end,
        };
        if self.below(3) == 0 {
            // Nothing was sent.
            let back = self.command(group, end(RequestEnd::GivenBack)).await;
            return self.tell(&format!("give back {name}: {}", said(&back)));
        }
        self.journal.delivered(key);
        let sent = self.command(group, end(RequestEnd::Sent)).await;
        self.tell(&format!("sent {name}: {}", said(&sent)));
        if self.below(2) == 0 {
            // The download goes on under its ticket, and this time nothing is sent.
            let again = Command::UseTicket {
                bucket: self.bucket,
                key: key.clone(),
                ticket,
                range,
            };
            if self.command(group, again).await.is_ok() {
                let back = self.command(group, end(RequestEnd::GivenBack)).await;
                self.tell(&format!("give a part back {name}: {}", said(&back)));
            }
        }
    }

    /// Has a command done. Where its outcome is unknown, some clients ask again,
    /// later and with the same id: what they hear then is what came of it.
    async fn command(&self, group: GroupId, command: Command) -> Result<Outcome, ClusterError> {
        let env = self.cluster.env();
        let id = env.entropy.request_id(env.clock.as_ref());
        let propose = || {
            let command = command.clone();
            self.cluster.propose(group, id, command, DEADLINE, None)
        };
        let mut result = propose().await;
        let mut asked = 0;
        while asked < 3
            && matches!(result, Err(ClusterError::OutcomeUnknown { .. }))
            && self.below(3) > 0
        {
            asked += 1;
            env.clock
                .sleep(Duration::from_millis(self.below(8_000)))
                .await;
            let before = result;
            result = propose().await;
            match &result {
                Ok(_) | Err(ClusterError::Refused(_)) => {
                    self.journal.count(|counts| counts.again += 1);
                }
                // That this attempt was not taken says nothing of the first.
                Err(_) => result = before,
            }
        }
        result
    }
}

fn said<T>(result: &Result<T, ClusterError>) -> String {
    match result {
        Ok(_) => "done".into(),
        Err(error) => error.to_string(),
    }
}
