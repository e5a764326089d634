//! Every route of a storage node by every kind of bad credential: refused, and
//! nothing changed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::content::noise;
use holdfast_e2e::processes::{Cluster, SECRET, Shape, TOKEN};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::{Kept, claim, ensure_eq, expect_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_does_nothing_for_who_shows_no_credential() -> Result<()> {
    let shape = Shape {
        nodes: 3,
        gateways: 1,
        ..Shape::default()
    };
    let mut cluster = Cluster::start(shape).await?;
    claim!(self::every_route_by_every_bad_credential(&mut cluster));
    Ok(())
}

/// A call of the protocol between nodes.
const CALL_TYPE: &str = "application/vnd.holdfast.call";

struct Route {
    method: Method,
    path: String,
    call: bool,
}

/// Every route of the node's server and every call of the protocol.
fn routes(fragment: &str) -> Vec<Route> {
    let route = |method, path: String, call| Route { method, path, call };
    let mut routes = vec![
        route(Method::POST, "/upload".into(), false),
        route(Method::GET, format!("/download/{fragment}"), false),
        route(Method::DELETE, format!("/delete/{fragment}"), false),
        route(Method::GET, "/files".into(), false),
        route(Method::GET, "/stats".into(), false),
        route(Method::GET, "/no-such-route".into(), false),
        route(Method::PUT, "/health/..%2fstats".into(), false),
    ];
    let calls = [
        "/upload",
        "/download",
        "/delete",
        "/files",
        "/v1/raft",
        "/v1/snapshot",
        "/v1/propose",
        "/v1/query",
        "/v1/status",
        "/v1/bootstrap",
        "/v1/members",
        "/v1/transfer",
        "/v1/digests",
        "/v1/backup",
    ];
    routes.extend(calls.map(|path| route(Method::POST, path.into(), true)));
    routes
}

/// What a request may show that is no credential.
fn bad_credentials() -> Vec<(&'static str, HeaderMap)> {
    let one = |name: &'static str, value: String| {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(HeaderName::from_static(name), value);
        }
        headers
    };
    let bearer = |token: &str| one("authorization", format!("Bearer {token}"));
    let mut doubled = bearer("wrong");
    if let Ok(value) = HeaderValue::from_str(&format!("Bearer {SECRET}")) {
        doubled.append(AUTHORIZATION, value);
    }
    vec![
        ("none", HeaderMap::new()),
        ("an empty one", one("authorization", String::new())),
        ("no token", bearer("")),
        ("a wrong token", bearer("wrong")),
        ("the admin key of the HTTP API", bearer(TOKEN)),
        ("a beginning of it", bearer(&SECRET[..SECRET.len() - 1])),
        ("more than it", bearer(&format!("{SECRET}x"))),
        ("it twice", bearer(&format!("{SECRET}{SECRET}"))),
        ("it in capitals", bearer(&SECRET.to_uppercase())),
        (
            "bytes that are no text",
            one("authorization", "Bearer \u{e9}\u{ff}".into()),
        ),
        ("the bare token", one("authorization", SECRET.into())),
        (
            "as a user's password",
            one("authorization", format!("Basic {SECRET}")),
        ),
        (
            "an unknown scheme",
            one("authorization", format!("Digest {SECRET}")),
        ),
        ("in another header", one("x-api-key", SECRET.into())),
        ("in a cookie", one("cookie", format!("token={SECRET}"))),
        ("a wrong one before the right one", doubled),
    ]
}

async fn every_route_by_every_bad_credential(cluster: &mut Cluster) -> Result<()> {
    let gateway = cluster.gateway(0)?;
    let mut kept = Vec::new();
    for (seed, size) in [(1, 100_000), (2, 2 << 20), (3, 500)] {
        let bytes = noise(seed, size);
        let id = gateway.upload("kept.bin", bytes.clone(), 0).await?;
        kept.push(Kept { id, bytes });
    }
    let client = holdfast_e2e::http::client()?.build()?;
    let before = all_fragments(&client, cluster).await?;
    let listed = gateway.json("/api/files").await?;
    let keys = gateway.json("/api/admin/keys").await?;
    let mut asked = 0;
    for node in &cluster.nodes {
        let names = before.get(&node.name).context("no fragments")?;
        let fragment = names.keys().next().context("a node without fragments")?;
        for route in routes(fragment) {
            for (kind, headers) in bad_credentials() {
                let (wanted, url) = (&route.method, format!("{}{}", node.url(), route.path));
                // Also in the query, where no credential ever belongs.
                for url in [url.clone(), format!("{url}?token={SECRET}")] {
                    let request = build(&client, &route, &url).headers(headers.clone());
                    let response = request.send().await?;
                    let status = response.status();
                    ensure!(
                        status == StatusCode::UNAUTHORIZED,
                        "{wanted} {url} with {kind}: {status}"
                    );
                    ensure!(
                        response.headers().contains_key("www-authenticate"),
                        "{url}: no challenge"
                    );
                    asked += 1;
                }
            }
        }
        // So that a node that refuses everybody would not pass.
        for route in routes("00") {
            let url = format!("{}{}", node.url(), route.path);
            let known = build(&client, &route, &url)
                .bearer_auth(SECRET)
                .send()
                .await?;
            ensure!(
                known.status() != StatusCode::UNAUTHORIZED,
                "{url} refuses the credential"
            );
        }
        let health = client.get(format!("{}/health", node.url())).send().await?;
        ensure_eq("/health", health.status(), StatusCode::OK)?;
    }
    println!("{asked} requests were refused");
    ensure_eq(
        "the fragments",
        all_fragments(&client, cluster).await?,
        before,
    )?;
    ensure_eq("the files", gateway.json("/api/files").await?, listed)?;
    ensure_eq("the keys", gateway.json("/api/admin/keys").await?, keys)?;
    expect_all(&gateway, &kept).await
}

fn build(client: &Client, route: &Route, url: &str) -> RequestBuilder {
    let request = client.request(route.method.clone(), url);
    if route.call {
        // A head of no bytes, and no body: no call takes it for one.
        return request.header("content-type", CALL_TYPE).body(vec![0; 4]);
    }
    if route.method == Method::POST {
        let name = "0".repeat(32);
        return request.header("holdfast-fragment", name).body("bytes");
    }
    request
}

type Fragments = BTreeMap<String, BTreeMap<String, Value>>;

/// Every fragment on every node.
async fn all_fragments(client: &Client, cluster: &Cluster) -> Result<Fragments> {
    let mut all = BTreeMap::new();
    for node in &cluster.nodes {
        let url = format!("{}/files", node.url());
        let response = client.get(&url).bearer_auth(SECRET).send().await?;
        ensure_eq("/files", response.status(), StatusCode::OK)?;
        let page: Value = response.json().await?;
        ensure!(page["next"].is_null(), "more than a page");
        let files = page["files"].as_array().context("no files")?;
        let rows = files
            .iter()
            .filter_map(|file| Some((file["name"].as_str()?.to_owned(), file.clone())));
        all.insert(node.name.clone(), rows.collect());
    }
    Ok(all)
}
