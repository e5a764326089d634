//! Which requests are calls of the protocol, and their way past the router:
//! each upload and download is several of them.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_runtime::host::http::{CALL_TYPE, answer_call, response_of};
use tower::{Service, ServiceExt};

use super::{Site, refusal, router};
use crate::limits::{Kind, kind_of};
use crate::node::Admitted;

/// Answers calls itself, and has the router answer everything else.
#[derive(Clone)]
pub struct Front {
    site: Site,
    router: Router,
}

impl Front {
    pub(super) fn new(site: Site) -> Self {
        Self {
            router: router(site.clone()),
            site,
        }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if is_call(&request) {
            let site = self.site.clone();
            return async move { Ok(answer(&site, request).await) }.boxed();
        }
        self.router.clone().oneshot(request).boxed()
    }
}

fn is_call(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    request.method() == Method::POST && kind.is_some_and(|value| value == CALL_TYPE)
}

async fn answer(site: &Site, request: Request) -> Response {
    if !site.admits(request.headers()) {
        return refusal();
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let admitted = match Admitted::of(&site.node, path) {
        Ok(admitted) => admitted,
        Err(busy) => return response_of(busy).map(Body::new),
    };
    // What keeps the cluster waits for no head of data.
    let heads = match kind_of(path) {
        Kind::Vital => &site.vital_heads,
        _ => &site.heads,
    };
    match answer_call(&admitted, path, &parts.headers, body, heads).await {
        Some(response) => response.map(Body::new),
        None => (StatusCode::NOT_FOUND, "there is no such call\n").into_response(),
    }
}
