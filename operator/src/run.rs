//! Wires it together: the election, the watches, the port of operations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt;
use futures_util::future::join_all;
use holdfast_crd::StorageCluster;
use holdfast_model::Supported;
use holdfast_plan::{ChildKind, OptionalKinds, names};
use holdfast_runtime::Shutdown;
use holdfast_runtime::host::operations::{OperationsParts, serve_operations};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, Predicate, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::OperatorError;
use crate::health::Health;
use crate::lease::Election;
use crate::observe::api_resource;
use crate::reconcile::reconcile;
use crate::settings::OperatorSettings;

/// Clusters that are reconciled at the same time.
const CONCURRENCY: u16 = 16;
/// The first and the longest wait after an error.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// How often it is looked for kinds of others.
const LOOK_FOR_KINDS: Duration = Duration::from_secs(60);
/// Runs until the shutdown.
///
/// # Errors
/// When it cannot begin.
pub async fn run(
    settings: OperatorSettings,
    supports: Supported,
    client: Client,
    metrics: PrometheusHandle,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let health = Health::new(Instant::now());
    let (election, leads) = Election::new(
        client.clone(),
        &settings.namespace,
        settings.name.clone(),
        health.clone(),
    );
    let (found, kinds) = watch::channel(find_kinds(&client).await);
    let context = Context::new(
        client.clone(),
        settings.clone(),
        supports,
        kinds,
        health.clone(),
    );
    let living = health.clone();
    serve_operations(
        settings.metrics_addr,
        OperationsParts {
            metrics: Some(metrics),
            alive: Some(Arc::new(move || living.alive(Instant::now()))),
            ready: Arc::new(move || health.ready(Instant::now())),
            debug: Arc::new(move || serde_json::json!({ "version": supports.version() })),
            loaded: None,
        },
        shutdown.clone(),
    )
    .await
    .with_context(|| {
        format!(
            "listening on {}; choose another with HOLDFAST_METRICS_ADDR",
            settings.metrics_addr
        )
    })?;
    let electing = tokio::spawn(election.run(shutdown.clone()));
    tokio::spawn(look_for_kinds(client, found, shutdown.clone()));
    work_while_leading(&context, leads, &shutdown).await;
    electing.await.context("the election")?;
    Ok(())
}

/// Works while this replica leads; what was begun ends before it stops.
async fn work_while_leading(
    context: &Arc<Context>,
    mut leads: watch::Receiver<bool>,
    shutdown: &Shutdown,
) {
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            led = leads.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        let term = CancellationToken::new();
        let mut kinds = context.kinds.clone();
        kinds.mark_unchanged();
        let namespaces = context.settings.namespaces().into_iter();
        let all = namespaces
            .map(|namespace| work(context.clone(), namespace, term.clone().cancelled_owned()));
        let end = async {
            tokio::select! {
                () = shutdown.begun() => {}
                // An error: nobody says any more whether we lead.
                _ = leads.wait_for(|leads| !*leads) => {}
                // Others are to be watched.
                Ok(()) = kinds.changed() => {}
            }
            term.cancel();
        };
        tokio::join!(join_all(all), end);
        if shutdown.has_begun() {
            return;
        }
    }
}

fn api<K>(client: &Client, namespace: Option<&String>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn work(
    context: Arc<Context>,
    namespace: Option<String>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = &context.client;
    let namespace = namespace.as_ref();
    let ours = watcher::Config::default().labels(&format!(
        "{}={},{}",
        names::NAME_LABEL,
        names::APPLICATION,
        names::INSTANCE_LABEL
    ));
    let (reader, writer) = reflector::store();
    // Our own writes of the status are no reason to look again.
    let asked = predicates::generation
        .combine(predicates::annotations)
        .combine(predicates::labels);
    let clusters = watcher(
        api::<StorageCluster>(client, namespace),
        watcher::Config::default(),
    )
    .default_backoff()
    .reflect(writer)
    .applied_objects()
    .predicate_filter(asked, Default::default());
    let mut controller = Controller::for_stream(clusters, reader)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .watches(
            api::<PartialObjectMeta<Pod>>(client, namespace),
            ours.clone(),
            owner,
        )
        .watches(
            api::<PartialObjectMeta<PersistentVolumeClaim>>(client, namespace),
            ours.clone(),
            owner,
        )
        .watches(
            api::<PartialObjectMeta<Secret>>(client, namespace),
            ours.clone(),
            owner,
        );
    let kinds = *context.kinds.borrow();
    for kind in ChildKind::ALL.into_iter().filter(|kind| kinds.has(*kind)) {
        let resource = api_resource(kind);
        let children: Api<PartialObjectMeta<DynamicObject>> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        controller = controller.watches_with(children, resource, ours.clone(), owner);
    }
    controller
        .graceful_shutdown_on(stop)
        .run(reconcile, retry, context.clone())
        .for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "a reconcile ended");
            }
        })
        .await;
}

/// Whose a labelled object is.
fn owner<K>(object: PartialObjectMeta<K>) -> Option<ObjectRef<StorageCluster>> {
    let name = object
        .metadata
        .labels
        .as_ref()?
        .get(names::INSTANCE_LABEL)?;
    let namespace = object.metadata.namespace.as_ref()?;
    Some(ObjectRef::new(name).within(namespace))
}

/// After an error: again, later each time it is known to have failed, not at
/// the same moment as all the others.
fn retry(resource: Arc<StorageCluster>, error: &OperatorError, context: Arc<Context>) -> Action {
    let failures = context.memory.failed(&resource);
    tracing::warn!(cluster = resource.name_any(), %error, failures, "a reconcile failed");
    let longest = RETRY_FIRST
        .saturating_mul(1 << failures.min(5))
        .min(RETRY_LONGEST);
    Action::requeue(longest.mul_f64(context.jitter()))
}

async fn look_for_kinds(client: Client, found: watch::Sender<OptionalKinds>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(LOOK_FOR_KINDS) => {}
        }
        let kinds = find_kinds(&client).await;
        found.send_if_modified(|known| std::mem::replace(known, kinds) != kinds);
    }
}

/// Which kinds of others the API server has.
async fn find_kinds(client: &Client) -> OptionalKinds {
    let has = |kind: ChildKind| async move {
        // A group that is not there is an error.
        let list = client.list_api_group_resources(kind.api_version()).await;
        list.is_ok_and(|list| {
            let mut all = list.resources.iter();
            all.any(|resource| resource.kind == kind.kind())
        })
    };
    let (certificate, service_monitor, prometheus_rule) = tokio::join!(
        has(ChildKind::Certificate),
        has(ChildKind::ServiceMonitor),
        has(ChildKind::PrometheusRule),
    );
    OptionalKinds {
        certificate,
        service_monitor,
        prometheus_rule,
    }
}
