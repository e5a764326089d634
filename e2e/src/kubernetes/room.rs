//! The Kubernetes cluster, and a namespace in it for each case.

use std::cell::RefCell;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::wait::until;
use anyhow::{Context, Result, bail};
use holdfast_crd::{StorageCluster, TlsMode};
use holdfast_runtime::host::tls::{Authorities, Trust};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, Resource};
use serde_json::{Value, json};

use crate::kubernetes::state;

/// Where the chart is installed.
pub const OPERATOR_NAMESPACE: &str = "holdfast-system";
/// The label of its pods.
pub const OPERATOR: &str = "app.kubernetes.io/name=holdfast-operator";
/// What all namespaces of cases carry, so that they are found and removed.
const LABEL: &str = "holdfast.dev/e2e";
/// Whose the fields of resources are that cases apply.
const MANAGER: &str = "holdfast-e2e";
/// Characters of a case's name in that of its namespace: a number and a suffix
/// follow.
const MAX_NAME: usize = 44;
/// Until all machines lead connections to what a new Service selects.
const KNOWN: Duration = Duration::from_secs(30);
/// Where gateways are called.
const GATEWAY_PORT: u16 = 5000;
/// Longer than a request takes that a gateway answers at all.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// The Kubernetes cluster.
pub struct World {
    /// Cases that have passed in this run.
    pub passed: RefCell<Vec<&'static str>>,
    client: Client,
    tag: String,
    next: Option<Next>,
}

/// Tags of images that are a release ahead.
#[derive(Clone)]
pub struct Next {
    /// Of a store's.
    pub store: String,
    /// Of the operator's.
    pub operator: String,
}

impl World {
    /// The cluster of KUBECONFIG, by no proxy.
    pub async fn reach(tag: String, next: Option<Next>) -> Result<Self> {
        let mut config = Config::infer().await.context("no cluster in KUBECONFIG")?;
        config.proxy_url = None;
        let client = Client::try_from(config)?;
        let version = client.apiserver_version().await;
        version.context("the cluster does not answer")?;
        let passed = RefCell::default();
        Ok(Self {
            passed,
            client,
            tag,
            next,
        })
    }
}

/// A namespace, and what a case does in it.
#[derive(Clone)]
pub struct Room {
    /// Its name.
    pub namespace: String,
    /// The tag of a store's images.
    pub tag: String,
    next: Option<Next>,
    /// Cases that had passed when this one began.
    pub passed: Vec<&'static str>,
    client: Client,
}

impl Room {
    /// The images that are a release ahead.
    pub fn next(&self) -> Result<&Next> {
        self.next
            .as_ref()
            .context("no images of the next release: give --next-tag and --next-operator-tag (`cargo xtask e2e full` does)")
    }

    /// Makes a namespace that is named for the case.
    pub async fn open(world: &World, case: &str) -> Result<Self> {
        let name = case.replace('_', "-");
        // A label of DNS, which a namespace's name is, has 63 characters at most.
        let name = name.get(..MAX_NAME).unwrap_or(&name);
        let namespace = format!("e2e-{}-{}", name.trim_end_matches('-'), std::process::id());
        let room = Self {
            namespace,
            tag: world.tag.clone(),
            next: world.next.clone(),
            passed: world.passed.borrow().clone(),
            client: world.client.clone(),
        };
        room.open_again().await?;
        Ok(room)
    }

    /// Makes another namespace for the same case, which closes it itself.
    pub async fn beside(&self, suffix: &str) -> Result<Self> {
        let mut room = self.clone();
        room.namespace = format!("{}-{suffix}", self.namespace);
        room.open_again().await?;
        Ok(room)
    }

    /// Makes the namespace, which is not there.
    pub async fn open_again(&self) -> Result<()> {
        let made = serde_json::from_value(json!({
            "metadata": {"name": self.namespace, "labels": {
                (LABEL): "true",
                "pod-security.kubernetes.io/enforce": "restricted",
            }}
        }))?;
        self.everywhere::<Namespace>()
            .create(&PostParams::default(), &made)
            .await?;
        Ok(())
    }

    /// Has it removed with all that is in it, and does not wait for that.
    pub async fn close(&self) -> Result<()> {
        Api::<Namespace>::all(self.client.clone())
            .delete(&self.namespace, &DeleteParams::default())
            .await?;
        Ok(())
    }

    /// Objects of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of a kind in this namespace, with all fields that they have.
    pub fn dynamic(&self, kind: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, kind)
    }

    /// Objects of a kind in the operator's namespace.
    pub fn beside_the_operator<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE)
    }

    /// Objects of a kind that belongs to no namespace.
    pub fn everywhere<K>(&self) -> Api<K>
    where
        K: Resource,
        K::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }

    /// The API groups that the cluster has.
    pub async fn api_groups(&self) -> Result<Vec<String>> {
        let list = self.client.list_api_groups().await?;
        Ok(list.groups.into_iter().map(|group| group.name).collect())
    }

    /// `kubectl apply` of a StorageCluster.
    pub async fn apply(&self, name: &str, spec: &Value) -> kube::Result<StorageCluster> {
        let resource = json!({
            "apiVersion": "holdfast.dev/v1alpha1",
            "kind": "StorageCluster",
            "metadata": {"name": name},
            "spec": spec,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        self.api::<StorageCluster>()
            .patch(name, &parameters, &Patch::Apply(&resource))
            .await
    }

    /// `kubectl patch --type merge` of its spec.
    pub async fn change(&self, name: &str, spec: Value) -> Result<()> {
        self.merge::<StorageCluster>(name, json!({ "spec": spec }))
            .await
    }

    /// `kubectl patch --type merge` of anything here.
    pub async fn merge<K>(&self, name: &str, change: Value) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let patch = Patch::Merge(&change);
        self.api::<K>()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("{name}: {change}"))?;
        Ok(())
    }

    /// `kubectl scale`.
    pub async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.api::<StorageCluster>()
            .patch_scale(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("kubectl scale --replicas={replicas}"))?;
        Ok(())
    }

    /// The resource as it is now.
    pub async fn cluster(&self, name: &str) -> Result<StorageCluster> {
        Ok(self.api::<StorageCluster>().get(name).await?)
    }

    /// Waits until the resource is as it should be.
    pub async fn until_cluster(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        holds: impl Fn(&StorageCluster) -> bool,
    ) -> Result<StorageCluster> {
        until(what, limit, async || {
            let cluster = self.cluster(name).await?;
            if !holds(&cluster) {
                bail!("{}", state::say(&cluster));
            }
            Ok(cluster)
        })
        .await
    }

    /// Waits until it is Ready, and this is about the spec of now.
    pub async fn until_ready(&self, name: &str, limit: Duration) -> Result<StorageCluster> {
        self.until_cluster(name, "Ready", limit, |cluster| {
            state::is_current(cluster) && state::is(cluster, "Ready", "True")
        })
        .await
    }

    /// Waits until it is Ready, and nothing is below its redundancy or under way.
    pub async fn until_settled(&self, name: &str, limit: Duration) -> Result<StorageCluster> {
        self.until_cluster(name, "Ready and whole", limit, state::is_settled)
            .await
    }

    /// The gateways by their Service, with the first key.
    pub async fn gateway(&self, name: &str) -> Result<Gateway> {
        let address = self.gateway_address(name).await?;
        let key = self.first_key(name).await?;
        if self.cluster(name).await?.spec.tls.mode == TlsMode::Disabled {
            let url = format!("http://{address}:{GATEWAY_PORT}");
            return Gateway::with_limit(url, key, REQUEST_LIMIT);
        }
        let trust = Trust::only(Authorities::from_pem(&self.authorities(name).await?)?);
        encrypted(name, &address, key, &trust)
    }

    /// The same of a cluster that encrypts, by a client that believes `trust`.
    pub async fn gateway_trusting(&self, name: &str, trust: &Trust) -> Result<Gateway> {
        let address = self.gateway_address(name).await?;
        encrypted(name, &address, self.first_key(name).await?, trust)
    }

    /// Where the gateways are called.
    pub async fn gateway_socket(&self, name: &str) -> Result<SocketAddr> {
        let address = self.gateway_address(name).await?;
        Ok(SocketAddr::new(address.parse()?, GATEWAY_PORT))
    }

    /// The gateways, which do not encrypt, by a Service of the case's own, for one
    /// that does something to theirs.
    pub async fn gateway_behind(&self, name: &str, service: &str) -> Result<Gateway> {
        let labels = json!({
            "app.kubernetes.io/instance": name,
            "app.kubernetes.io/component": "gateway",
        });
        let made = json!({
            "metadata": {"name": service},
            "spec": {"selector": labels, "ports": [{"port": GATEWAY_PORT}]},
        });
        let made = self
            .api::<Service>()
            .create(&PostParams::default(), &serde_json::from_value(made)?)
            .await?;
        let address = made.spec.and_then(|spec| spec.cluster_ip);
        let address = address.context("the Service has no address")?;
        let url = format!("http://{address}:{GATEWAY_PORT}");
        let key = self.first_key(name).await?;
        // Machines hear of a Service a moment after it is made. Until then its
        // address may lead elsewhere, so each try has a connection of its own.
        until("the Service leads to a gateway", KNOWN, async || {
            let gateway = Gateway::with_limit(url.clone(), key.clone(), REQUEST_LIMIT)?;
            gateway.json("/api/nodes").await?;
            Ok(gateway)
        })
        .await
    }

    async fn gateway_address(&self, name: &str) -> Result<String> {
        let service = self
            .api::<Service>()
            .get(&format!("{name}-gateway"))
            .await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip);
        address.context("the Service has no address")
    }

    /// Whom clients are to trust.
    pub async fn authorities(&self, name: &str) -> Result<Vec<u8>> {
        let secret = self.api::<Secret>().get(&format!("{name}-ca")).await?;
        let authorities = secret.data.and_then(|mut data| data.remove("ca.crt"));
        Ok(authorities.context("the Secret has no ca.crt")?.0)
    }

    /// The first key.
    pub async fn first_key(&self, name: &str) -> Result<String> {
        let secret = self.api::<Secret>().get(&format!("{name}-admin")).await?;
        let token = secret
            .data
            .and_then(|mut data| data.remove("token"))
            .context("the Secret has no token")?;
        Ok(String::from_utf8(token.0)?)
    }
}

fn encrypted(name: &str, address: &str, key: String, trust: &Trust) -> Result<Gateway> {
    let address = SocketAddr::new(address.parse()?, GATEWAY_PORT);
    let host = format!("{name}-gateway");
    Gateway::named(&host, address, key, trust, REQUEST_LIMIT)
}
