//! Every route, in one table: what serves it and what the description of the
//! API says of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};

use crate::app::App;
use crate::error::ApiError;
use crate::{admin, cluster_views, download, files, front, openapi, upload};

/// The largest JSON body, in bytes.
const MAX_JSON_BYTES: usize = 64 << 10;

/// The router of the HTTP API.
pub fn router(app: Arc<App>) -> Router {
    let uploads = Router::new()
        .route(
            "/api/upload",
            post(upload::post_form).put(upload::put_nameless),
        )
        .route("/api/upload/", put(upload::put_nameless))
        .route("/api/upload/{filename}", put(upload::put_raw))
        // They stream, with a limit of their own.
        .layer(DefaultBodyLimit::disable());
    let others = Router::new()
        .route("/api/download/{file_id}", get(download::download))
        .route("/api/files", get(files::listing::list))
        .route("/api/files/{file_id}", describe_or_delete())
        .route("/api/files/{file_id}/thumbnail", get(files::thumbnail))
        .route("/api/nodes", get(cluster_views::nodes))
        .route("/api/stats", get(cluster_views::stats))
        .route("/api/tasks", get(cluster_views::tasks))
        .route("/api/openapi.json", get(openapi::describe))
        .route(
            "/api/admin/keys",
            get(admin::list_keys).post(admin::make_key),
        )
        .route("/api/admin/keys/{id}", delete(admin::revoke_key))
        .route(
            "/api/admin/nodes/{id}/{action}",
            post(admin::set_node_state),
        )
        .route("/api/admin/finalize", post(admin::release::finalize))
        .route("/api/admin/status", get(admin::status))
        .route("/api/admin/backup", get(admin::backup::backup))
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES));
    Router::new()
        .merge(uploads)
        .merge(others)
        .fallback(|| async { ApiError::NoSuchRoute })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            front::front,
        ))
        // Probes come often, and show no credential: outside of the layer.
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(app)
}

fn describe_or_delete() -> MethodRouter<Arc<App>> {
    get(files::describe).delete(files::delete)
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}
