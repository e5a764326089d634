//! One upload on its way in: written to the nodes as it comes, then committed.
//!
//! Until the commit is sent, giving up leaves nothing but fragments that
//! clean-up finds. Once it is sent, nothing of it is deleted from here: only
//! the group knows what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_client::{ClusterError, ObjectPlace, ObjectTarget, ObjectWriter, Written};
use holdfast_metadata::command::{Command, Condition, NewTask, Outcome, PutObject};
use holdfast_model::{
    Content, FileName, ObjectRecord, RequestId, TaskId, TaskKind, Timestamp, UploadId, VersionId,
};

use super::parameters::Parameters;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::files::lookup::find;
use crate::mime;
use crate::secret::{Secret, token_hash};

/// How long a commit may take before its outcome counts as unknown.
const COMMIT_DEADLINE: Duration = Duration::from_secs(15);
/// How long giving an upload up may take; clean-up finds it without.
const ABORT_DEADLINE: Duration = Duration::from_secs(5);
/// Larger pictures are not scaled, in bytes.
const MAX_PICTURE_BYTES: u64 = 64 << 20;
/// Smaller files are not compressed, in bytes: a record's overhead is as large.
const MIN_COMPRESS_BYTES: u64 = 4 << 10;

/// An upload.
pub struct Incoming {
    app: Arc<App>,
    caller: Caller,
    idempotency_key: Option<String>,
    /// What its id and tokens are derived from.
    secret: Secret,
    begun: Option<Begun>,
    size: u64,
    first: Vec<u8>,
}

struct Begun {
    address: ObjectPlace,
    version: VersionId,
    writer: ObjectWriter,
}

/// What is known of a file once it has arrived.
pub struct Arrived {
    /// Its name.
    pub filename: FileName,
    /// Its media type, if one was declared.
    pub declared: Option<String>,
    /// What its uploader wishes.
    pub parameters: Parameters,
}

/// A file that is stored.
pub struct Stored {
    /// Its record.
    pub record: ObjectRecord,
    /// The token that lets its holder delete it.
    pub delete_token: String,
}

impl Incoming {
    /// An upload of which nothing is known yet.
    pub fn new(app: Arc<App>, caller: Caller, idempotency_key: Option<String>) -> Self {
        Self {
            secret: Secret::new(&app.settings.security.credential.current()),
            app,
            caller,
            idempotency_key,
            begun: None,
            size: 0,
            first: Vec::new(),
        }
    }

    /// While the cluster's credential is exchanged, an upload that is repeated
    /// may have been derived from the other one.
    pub async fn recognise(&mut self, trace: Option<&str>) -> Result<(), ApiError> {
        let other = self.app.settings.security.credential.previous();
        let (Some(key), Some(other)) = (&self.idempotency_key, other) else {
            return Ok(());
        };
        let other = Secret::new(&other);
        let id = hex::encode(other.derive_id("file", self.caller.id, key));
        match find(&self.app, &id, 0, trace).await {
            Ok(_) => {
                self.secret = other;
                Ok(())
            }
            Err(ApiError::NoSuchFile) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Begins to write. The lifetime only helps the nodes' own records; the
    /// commit decides.
    pub fn begin(
        &mut self,
        size_hint: Option<u64>,
        lifetime: Option<Duration>,
    ) -> Result<(), ApiError> {
        let env = &self.app.env;
        let id = match &self.idempotency_key {
            Some(key) => self.secret.derive_id("file", self.caller.id, key),
            None => env.entropy.id(),
        };
        let address = self.app.locate(&hex::encode(id))?;
        let version = VersionId::from_bytes(env.entropy.id());
        let target = ObjectTarget {
            bucket: address.bucket,
            key: address.key.clone(),
            version,
            expires: lifetime.map(|life| env.clock.wall().plus(life.as_millis() as u64)),
        };
        let writer = ObjectWriter::new(
            &self.app.cluster,
            target,
            size_hint,
            self.app.budget.clone(),
        );
        self.begun = Some(Begun {
            address,
            version,
            writer,
        });
        Ok(())
    }

    /// Writes the next bytes; waits while the nodes are behind.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), ApiError> {
        let begun = self
            .begun
            .as_mut()
            .ok_or_else(|| ApiError::Internal("written before it was begun".into()))?;
        let size = self.size + piece.len() as u64;
        let max = self.app.settings.max_file_bytes;
        if size > max {
            return Err(ApiError::TooLarge { max });
        }
        self.size = size;
        let wanted = mime::SNIFF_BYTES.saturating_sub(self.first.len());
        self.first.extend(piece.iter().take(wanted));
        Ok(begun.writer.write(piece).await?)
    }

    /// Gives the upload up.
    pub async fn abort(self) {
        if let Some(begun) = self.begun {
            begun.writer.abort().await;
        }
    }

    /// Makes the file exist.
    pub async fn commit(
        mut self,
        arrived: Arrived,
        trace: Option<&str>,
    ) -> Result<Stored, ApiError> {
        // Before the last fragments are waited for: it may be refused.
        let password = match &arrived.parameters.password {
            Some(password) => match self.app.passwords.hash(password).await {
                Ok(hash) => Some(hash),
                Err(error) => {
                    self.abort().await;
                    return Err(error);
                }
            },
            None => None,
        };
        let begun = self.begun.take().ok_or(ApiError::FileMissing)?;
        let Begun {
            address,
            version,
            writer,
        } = begun;
        let written = writer.finish().await?;
        let delete_token = self.delete_token();
        let uploads: Vec<UploadId> = written.representation.uploads().collect();
        let put = self.put_object(
            &address,
            version,
            &arrived,
            password,
            &delete_token,
            written,
        );
        let has_tasks = !put.tasks.is_empty();
        let record = self.propose(&address, put, &uploads, trace).await?;
        if record.version != version {
            // The same upload was committed before: these bytes are not needed.
            self.give_up(&address, uploads);
        } else if has_tasks {
            self.app.dispatcher.kick(address.group);
        }
        Ok(Stored {
            record,
            delete_token,
        })
    }

    async fn propose(
        &self,
        address: &ObjectPlace,
        put: PutObject,
        uploads: &[UploadId],
        trace: Option<&str>,
    ) -> Result<ObjectRecord, ApiError> {
        let id = self.request_id();
        let command = Command::PutObject(Box::new(put));
        let proposed = self
            .app
            .cluster
            .propose(address.group, id, command, COMMIT_DEADLINE, trace)
            .await;
        match proposed {
            Ok(Outcome::Put(record)) => Ok(*record),
            Ok(other) => Err(ApiError::Internal(format!("a commit answers {other:?}"))),
            Err(ClusterError::Refused(refusal)) => {
                // The group has decided: what was written is garbage.
                self.give_up(address, uploads.to_vec());
                Err(ClusterError::Refused(refusal).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn put_object(
        &self,
        address: &ObjectPlace,
        version: VersionId,
        arrived: &Arrived,
        password: Option<String>,
        delete_token: &str,
        written: Written,
    ) -> PutObject {
        let mime = mime::decide(
            arrived.declared.as_deref(),
            arrived.filename.as_str(),
            &self.first,
        );
        let tasks = self.tasks(&mime, written.size);
        let idempotent = self.idempotency_key.is_some();
        let fingerprint = idempotent.then(|| self.fingerprint(arrived, &mime, &written.sha256));
        let lifetime = arrived.parameters.lifetime;
        let record = ObjectRecord {
            bucket: address.bucket,
            key: address.key.clone(),
            version,
            owner: self.caller.id,
            // The group sets it.
            created: Timestamp(0),
            expires: None,
            content: Content {
                filename: Some(arrived.filename.clone()),
                mime,
                size: written.size,
                sha256: written.sha256,
                etag: hex::encode(written.sha256),
                checksums: BTreeMap::new(),
            },
            representation: written.representation,
            downloads: arrived.parameters.downloads,
            password,
            delete_token: Some(token_hash(delete_token)),
            metadata: BTreeMap::new(),
            tags: BTreeMap::new(),
            derived: Vec::new(),
            revision: 0,
            fingerprint,
            kind: Default::default(),
            headers: Default::default(),
        };
        PutObject {
            record,
            chunks: written.chunks,
            generation: written.generation,
            tasks,
            condition: match idempotent {
                true => Condition::Idempotent,
                false => Condition::Absent,
            },
            lifetime_millis: lifetime.map(|life| life.as_millis() as u64),
        }
    }

    fn tasks(&self, mime: &str, size: u64) -> Vec<NewTask> {
        wanted_tasks(mime, size)
            .into_iter()
            .map(|kind| NewTask {
                id: TaskId::from_bytes(self.app.env.entropy.id()),
                kind,
            })
            .collect()
    }

    /// What makes two uploads the same request. Keyed, so that nobody who reads
    /// records can try passwords against it.
    fn fingerprint(&self, arrived: &Arrived, mime: &str, sha256: &[u8; 32]) -> [u8; 32] {
        let parameters = &arrived.parameters;
        let lifetime = parameters.lifetime.map_or(0, |life| life.as_secs());
        let limit = parameters.downloads.map_or(0, |downloads| downloads.limit);
        let password = parameters.password.as_deref();
        self.secret.derive(
            "fingerprint",
            &[
                arrived.filename.as_str().as_bytes(),
                mime.as_bytes(),
                &lifetime.to_be_bytes(),
                &limit.to_be_bytes(),
                &[u8::from(password.is_some())],
                password.unwrap_or_default().as_bytes(),
                sha256,
            ],
        )
    }

    /// Random, or the same again for the same idempotency key, since the group
    /// keeps only its hash.
    fn delete_token(&self) -> String {
        match &self.idempotency_key {
            Some(key) => hex::encode(self.secret.derive_id("delete-token", self.caller.id, key)),
            None => hex::encode(self.app.env.entropy.id()),
        }
    }

    /// Not derived from the idempotency key: its first bytes are the time of
    /// this attempt, by which outcomes are forgotten. A repeated upload is told
    /// by its object's id and fingerprint.
    fn request_id(&self) -> RequestId {
        self.app.cluster.request_id()
    }

    /// Tells the group that these chunks are garbage; clean-up finds them
    /// without, later.
    fn give_up(&self, address: &ObjectPlace, uploads: Vec<UploadId>) {
        let app = self.app.clone();
        let group = address.group;
        let ids: Vec<RequestId> = uploads.iter().map(|_| self.request_id()).collect();
        let task = async move {
            for (upload, id) in uploads.into_iter().zip(ids) {
                let command = Command::AbortUpload { upload };
                let done = app
                    .cluster
                    .propose(group, id, command, ABORT_DEADLINE, None)
                    .await;
                if let Err(error) = done {
                    tracing::info!(%upload, %error, "an upload given up is left to clean-up");
                }
            }
        };
        self.app.env.tasks.spawn("give-up-upload", Box::pin(task));
    }
}

/// What workers are to do with a file.
fn wanted_tasks(mime: &str, size: u64) -> Vec<TaskKind> {
    let mut tasks = Vec::new();
    if mime::is_picture(mime) && size > 0 && size <= MAX_PICTURE_BYTES {
        tasks.push(TaskKind::Thumbnail);
    }
    if mime::is_compressible(mime) && size > MIN_COMPRESS_BYTES {
        tasks.push(TaskKind::Compress);
    }
    tasks
}

/// Whether a thumbnail is made of such a file.
pub fn gets_thumbnail(mime: &str, size: u64) -> bool {
    wanted_tasks(mime, size).contains(&TaskKind::Thumbnail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_asked_for_what_makes_sense() {
        assert_eq!(wanted_tasks("image/png", 10), [TaskKind::Thumbnail]);
        assert_eq!(wanted_tasks("image/png", 65 << 20), []);
        assert_eq!(wanted_tasks("text/csv", 5 << 10), [TaskKind::Compress]);
        assert_eq!(wanted_tasks("text/csv", 4 << 10), []);
        assert_eq!(wanted_tasks("application/zip", 1 << 30), []);
    }
}
