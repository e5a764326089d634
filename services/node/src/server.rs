//! A node behind HTTP: the calls of the protocol, and the original routes for
//! people and their tools.
//!
//! Every route but `/health` needs the cluster's credential. A request that
//! does not show it is answered before anything of it is read.

use std::sync::Arc;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get, post};
use futures_util::StreamExt;
use holdfast_client::blocks::BlockDecoder;
use holdfast_metadata::protocol::{
    DownloadRequest, FilesRequest, FragmentIds, NodeError, UploadRequest,
};
use holdfast_model::{FragmentHeader, FragmentId, Generation};
use holdfast_runtime::host::http::HeadRoom;
use holdfast_runtime::{Body, Credential};
use serde::Deserialize;
use serde_json::json;

use crate::limits::Kind;
use crate::node::Node;

mod errors;
mod front;
mod listen;
use errors::failed;
pub use front::Front;
pub use listen::LIMITS;

/// Rows of a page of `/files`, unless told.
const DEFAULT_FILES: u32 = 1_000;

/// What the handlers share.
#[derive(Clone)]
pub struct Site {
    node: Arc<Node>,
    credential: Credential,
    heads: HeadRoom,
    vital_heads: HeadRoom,
}

/// Everything that a node answers.
pub fn front(node: Arc<Node>, credential: Credential) -> Front {
    Front::new(Site {
        node,
        credential,
        heads: HeadRoom::default(),
        vital_heads: HeadRoom::default(),
    })
}

/// The routes for people and their tools.
fn router(site: Site) -> Router {
    Router::new()
        .route("/upload", post(upload))
        .route("/download/{name}", get(download))
        .route("/delete/{name}", delete(delete_one))
        .route("/files", get(files))
        .route("/stats", get(stats))
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such route\n"))
        .layer(from_fn_with_state(site.clone(), take_place))
        .layer(from_fn_with_state(site.clone(), check_credential))
        .route("/health", get(health))
        .with_state(site)
}

/// Refuses whoever does not show the cluster's credential as a bearer token.
async fn check_credential(State(site): State<Site>, request: Request, next: Next) -> Response {
    if site.admits(request.headers()) {
        return next.run(request).await;
    }
    refusal()
}

/// Gives a request its place among those of its kind, which it keeps until the
/// last of its answer is sent.
async fn take_place(State(site): State<Site>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let kind = match path.split('/').nth(1) {
        Some("upload" | "download") => Kind::Transfer,
        Some("files" | "delete") => Kind::Look,
        _ => Kind::Vital,
    };
    let place = match site.node.limits().enter(kind) {
        Ok(place) => place,
        Err(error) => return failed(&error),
    };
    let response = next.run(request).await;
    if kind != Kind::Transfer {
        return response;
    }
    response.map(|body| {
        let pieces = body.into_data_stream();
        HttpBody::from_stream(pieces.inspect(move |_| {
            let _held = &place;
        }))
    })
}

impl Site {
    fn admits(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(header::AUTHORIZATION)
            .map(|value| value.as_bytes());
        shown
            .and_then(|value| value.strip_prefix(b"Bearer "))
            .is_some_and(|token| self.credential.admits(token))
    }
}

fn refusal() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    let text = "this needs the cluster's credential as bearer token\n";
    (StatusCode::UNAUTHORIZED, challenge, text).into_response()
}

async fn health(State(site): State<Site>) -> Response {
    let status = site.node.status();
    let healthy = !status.draining;
    let code = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let word = if healthy { "healthy" } else { "draining" };
    (code, Json(json!({ "status": word, "node": status.node }))).into_response()
}

/// `POST /upload`: a raw body with the fragment's name in `Holdfast-Fragment`,
/// as curl sends it.
async fn upload(State(site): State<Site>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match upload_raw(&site.node, &parts.headers, body).await {
        Ok((id, bytes)) => (
            StatusCode::CREATED,
            Json(json!({ "name": id.to_string(), "size": bytes })),
        )
            .into_response(),
        Err(error) => failed(&error),
    }
}

async fn upload_raw(
    node: &Node,
    headers: &HeaderMap,
    body: HttpBody,
) -> Result<(FragmentId, u64), NodeError> {
    let identity = node.identity();
    let cluster = identity.cluster.ok_or(NodeError::NotBorn)?;
    let name = headers
        .get("holdfast-fragment")
        .and_then(|value| value.to_str().ok());
    let id: FragmentId = name
        .ok_or_else(|| NodeError::Invalid("the header Holdfast-Fragment names no fragment".into()))?
        .parse()
        .map_err(|error: holdfast_model::fragment::ParseFragmentError| {
            NodeError::Invalid(error.to_string())
        })?;
    let max_bytes = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .ok_or_else(|| NodeError::Invalid("a Content-Length is needed".into()))?;
    let header = FragmentHeader {
        id,
        cluster,
        bucket: holdfast_model::BucketId::from_bytes([0; 16]),
        version: holdfast_model::VersionId::from_bytes([0; 16]),
        redundancy: holdfast_model::Redundancy::copies(1),
        stripe_bytes: holdfast_model::record::STRIPE_BYTES,
        generation: Generation(0),
        encryption_key: None,
    };
    let request = UploadRequest {
        disk: identity.disk,
        header,
        max_bytes,
        key: None,
        expires: None,
        copy: false,
    };
    let uploaded = node
        .take_fragment(request, Body::stream(framed(body)))
        .await?;
    Ok((id, uploaded.bytes))
}

/// Raw pieces as whole blocks.
fn framed(
    body: HttpBody,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, holdfast_runtime::TransportError>> {
    use holdfast_metadata::protocol::BLOCK_BYTES;
    let state = (body.into_data_stream(), bytes::BytesMut::new(), false);
    futures_util::stream::unfold(state, |(mut pieces, mut held, ended)| async move {
        let mut ended = ended;
        while !ended && held.len() < BLOCK_BYTES {
            match pieces.next().await {
                Some(Ok(piece)) => held.extend_from_slice(&piece),
                Some(Err(error)) => {
                    let reason = error.to_string();
                    let error = holdfast_runtime::TransportError::Broken { reason };
                    return Some((Err(error), (pieces, bytes::BytesMut::new(), true)));
                }
                None => ended = true,
            }
        }
        if held.is_empty() {
            return None;
        }
        let whole = if ended {
            held.len()
        } else {
            held.len() - held.len() % BLOCK_BYTES
        };
        let blocks = holdfast_client::blocks::encode_blocks(&held.split_to(whole));
        Some((Ok(blocks), (pieces, held, ended)))
    })
}

/// `GET /download/{name}`: the fragment's bytes, verified.
async fn download(State(site): State<Site>, Path(name): Path<String>) -> Response {
    let read = async {
        let id = parse_name(&name)?;
        let disk = site.node.identity().disk;
        let request = DownloadRequest {
            disk,
            id,
            first: 0,
            end: u64::MAX / 2,
            copy: false,
        };
        site.node.fragments().download(request).await
    };
    let (head, body) = match read.await {
        Ok(read) => read,
        Err(error) => return failed(&error),
    };
    let mut decoder = BlockDecoder::default();
    let bytes = body.into_stream().map(move |piece| {
        decoder.push(&piece.map_err(|error| error.to_string())?);
        let mut plain = bytes::BytesMut::new();
        while let Some(block) = decoder.next_block().map_err(|error| error.to_string())? {
            plain.extend_from_slice(&block);
        }
        Ok::<_, String>(plain.freeze())
    });
    let length = [(header::CONTENT_LENGTH, head.bytes)];
    let mut response = HttpBody::from_stream(bytes).into_response();
    for (name, value) in length {
        response.headers_mut().insert(name, value.into());
    }
    let plain = axum::http::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

async fn delete_one(State(site): State<Site>, Path(name): Path<String>) -> Response {
    let done = async {
        let id = parse_name(&name)?;
        let disk = site.node.identity().disk;
        site.node
            .fragments()
            .delete(FragmentIds {
                below: None,
                disk,
                ids: vec![id],
            })
            .await
    };
    match done.await {
        Ok(deleted) if deleted.count == 0 => failed(&NodeError::NoSuchFragment),
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    }
}

#[derive(Deserialize)]
struct Page {
    after: Option<String>,
    limit: Option<u32>,
}

async fn files(State(site): State<Site>, Query(page): Query<Page>) -> Response {
    let list = async || -> Result<_, NodeError> {
        let after = page.after.as_deref().map(parse_name).transpose()?;
        let limit = page.limit.unwrap_or(DEFAULT_FILES);
        let request = FilesRequest {
            disk: None,
            after,
            before: None,
            limit,
        };
        site.node.fragments().files(&request).await
    };
    match list().await {
        Ok(found) => {
            let next = found
                .more
                .then(|| found.files.last().map(|file| file.id.to_string()))
                .flatten();
            let rows: Vec<_> = found
                .files
                .iter()
                .map(|file| {
                    json!({
                        "name": file.id.to_string(),
                        "size": file.bytes,
                        "generation": file.generation,
                        "corrupt": file.corrupt,
                    })
                })
                .collect();
            Json(json!({ "disk": found.disk, "files": rows, "next": next })).into_response()
        }
        Err(error) => failed(&error),
    }
}

/// `GET /stats`: disk, fragments, groups and who leads them.
async fn stats(State(site): State<Site>) -> Response {
    let status = site.node.status();
    let groups: Vec<_> = status
        .groups
        .iter()
        .map(|group| {
            json!({
                "group": group.group,
                "leader": group.leader,
                "leads": group.active,
                "term": group.term,
                "applied": group.applied,
                "committed": group.committed,
                "voters": group.voters.len(),
                "learners": group.learners.len(),
                "totals": group.totals,
            })
        })
        .collect();
    let compaction = site.node.controller().map(|controller| {
        let totals = controller.compaction();
        json!({
            "active": totals.active,
            "fragments": totals.moved,
            "bytes": totals.bytes,
            "corrupt": totals.corrupt,
        })
    });
    Json(json!({
        "node": status.node,
        "disk": status.disk,
        "cluster": status.cluster,
        "incarnation": status.incarnation,
        "release": status.supports.release.to_string(),
        "formats": status.recorded.map(|active| active.to_string()),
        "address": status.address,
        "zone": status.zone,
        "capacity": status.space.capacity,
        "free": status.space.free,
        "full": status.space.full,
        "inline_full": status.space.inline_full,
        "fragments": status.space.fragments,
        "fragment_bytes": status.space.fragment_bytes,
        "corrupt": status.space.corrupt,
        "compaction": compaction,
        "groups": groups,
    }))
    .into_response()
}

fn parse_name(name: &str) -> Result<FragmentId, NodeError> {
    name.parse()
        .map_err(|error: holdfast_model::fragment::ParseFragmentError| {
            NodeError::Invalid(error.to_string())
        })
}

#[cfg(test)]
mod tests;
