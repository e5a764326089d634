//! A backup: one file with the cluster's state and every group's rows, each
//! group as of one moment. Its format is written down in `docs/formats.md`.
//!
//! A backup that breaks off has no closing section, and no reader takes it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use holdfast_client::StorageNodeClient;
use holdfast_metadata::protocol::{BackupHead, BackupRequest, encode};
use holdfast_metadata::query::{Answer, Query};
use holdfast_model::{ClusterState, GroupId};
use holdfast_runtime::{Address, TransportError};
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::auth::need_admin;
use crate::error::ApiError;
use crate::files::lookup::QUERY_DEADLINE;
use crate::front::Context;

/// What a backup begins with.
pub const MAGIC: &[u8; 8] = b"HFBACKUP";
/// The format's version.
pub const VERSION: u32 = 1;

/// The kinds of sections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Section {
    /// The cluster's state.
    Cluster = 1,
    /// A group begins.
    Group = 2,
    /// A piece of its rows.
    Rows = 3,
    /// A group ends: how many bytes of rows it has.
    GroupEnd = 4,
    /// The backup ends: SHA-256 of all bytes before this section.
    End = 5,
}

type Rows = BoxStream<'static, Result<Bytes, TransportError>>;

/// Why a backup broke off.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// No node leads the group.
    #[error("group {0} has no leader")]
    NoLeader(GroupId),
    /// The leader did not begin.
    #[error("group {group} cannot be read: {reason}")]
    Begin {
        /// The group.
        group: GroupId,
        /// What its leader says.
        reason: String,
    },
    /// The rows broke off.
    #[error("the rows of group {group} broke off: {source}")]
    Rows {
        /// The group.
        group: GroupId,
        /// Why.
        source: TransportError,
    },
}

/// `GET /api/admin/backup`.
pub async fn backup(
    State(app): State<Arc<App>>,
    context: Context,
) -> Result<Response<Body>, ApiError> {
    need_admin(context.caller)?;
    let room = app.admit_fan_out()?;
    let answer = app
        .cluster
        .query(
            GroupId::CLUSTER,
            Query::Cluster,
            QUERY_DEADLINE,
            context.trace(),
        )
        .await?;
    let Answer::Cluster(state) = answer else {
        return Err(ApiError::Internal("group 0 answers something else".into()));
    };
    let mut groups = vec![GroupId::CLUSTER];
    groups.extend(state.layout.data_groups());
    // Said before the first byte, while there is a status to say it with.
    for group in &groups {
        leader_of(&app, *group).map_err(|error| ApiError::NotReady(error.to_string()))?;
    }
    let mut writer = Writer::default();
    let head = writer.begin(&state);
    let walk = Walk {
        app,
        writer,
        groups: groups.into_iter().collect(),
        rows: None,
        ended: false,
    };
    let body = stream::iter([Ok(head)]).chain(stream::unfold(walk, |mut walk| async move {
        let piece = walk.next().await?;
        Some((piece, walk))
    }));
    let body = body.map(move |piece| {
        let _held_until_the_body_is_dropped = &room;
        piece.inspect_err(|error| tracing::warn!(%error, "a backup broke off"))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.holdfast.backup"),
    );
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"holdfast.backup\""),
    );
    Ok(response)
}

/// Goes through the groups, one piece of the file at a time.
struct Walk {
    app: Arc<App>,
    writer: Writer,
    groups: std::collections::VecDeque<GroupId>,
    rows: Option<(GroupId, Rows, u64)>,
    ended: bool,
}

impl Walk {
    async fn next(&mut self) -> Option<Result<Bytes, BackupError>> {
        if self.ended {
            return None;
        }
        let piece = self.step().await;
        // After an error nothing follows, least of all the closing section.
        self.ended |= piece.is_err();
        Some(piece)
    }

    async fn step(&mut self) -> Result<Bytes, BackupError> {
        let Some((group, mut rows, bytes)) = self.rows.take() else {
            let Some(group) = self.groups.pop_front() else {
                self.ended = true;
                return Ok(self.writer.end());
            };
            let (head, rows) = begin_group(&self.app, group).await?;
            self.rows = Some((group, rows, 0));
            return Ok(self.writer.section(Section::Group, &encode(&head)));
        };
        match rows.next().await {
            Some(Ok(piece)) => {
                self.rows = Some((group, rows, bytes + piece.len() as u64));
                Ok(self.writer.section(Section::Rows, &piece))
            }
            Some(Err(source)) => Err(BackupError::Rows { group, source }),
            None => Ok(self.writer.section(Section::GroupEnd, &bytes.to_be_bytes())),
        }
    }
}

fn leader_of(app: &App, group: GroupId) -> Result<Address, BackupError> {
    let leaders = app.cluster.leaders();
    let leader = leaders.get(&group).and_then(|view| view.leader);
    let state = app.cluster.state();
    leader
        .and_then(|disk| Some(Address(state?.layout.node_of(disk)?.address.clone())))
        .ok_or(BackupError::NoLeader(group))
}

async fn begin_group(app: &App, group: GroupId) -> Result<(BackupHead, Rows), BackupError> {
    let leader = leader_of(app, group)?;
    StorageNodeClient::new(app.env.transport.clone(), leader)
        .backup(&BackupRequest { group })
        .await
        .map_err(|error| BackupError::Begin {
            group,
            reason: error.to_string(),
        })
}

/// Writes sections and keeps the hash of all.
#[derive(Default)]
struct Writer {
    hash: Sha256,
}

impl Writer {
    fn begin(&mut self, state: &ClusterState) -> Bytes {
        let mut head = BytesMut::new();
        head.put_slice(MAGIC);
        head.put_u32(VERSION);
        self.hash.update(&head);
        head.put_slice(&self.section(Section::Cluster, &encode(state)));
        head.freeze()
    }

    fn section(&mut self, kind: Section, payload: &[u8]) -> Bytes {
        let mut section = BytesMut::with_capacity(5 + payload.len());
        section.put_u8(kind as u8);
        section.put_u32(payload.len() as u32);
        section.put_slice(payload);
        self.hash.update(&section);
        section.freeze()
    }

    fn end(&mut self) -> Bytes {
        let hash = self.hash.clone().finalize();
        self.section(Section::End, &hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_section_holds_the_hash_of_all_before_it() {
        let mut writer = Writer::default();
        let mut file = writer.section(Section::Group, b"head").to_vec();
        assert_eq!(file, b"\x02\0\0\0\x04head");
        file.extend_from_slice(&writer.section(Section::GroupEnd, &7u64.to_be_bytes()));
        let hash = Sha256::digest(&file);
        let end = writer.end();
        assert_eq!(end.first(), Some(&5));
        assert_eq!(&end[5..], hash.as_slice());
    }
}
