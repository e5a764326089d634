//! The network between machines: each message takes a while, is lost, or is
//! cut off by a partition. Calls to a machine without power are never answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use holdfast_runtime::transport::Handler;
use holdfast_runtime::{Address, Body, Call, Entropy, Reply, Transport, TransportError};
use tokio_util::sync::CancellationToken;

use crate::trace::Trace;

/// Everybody's handlers and the state of the links.
pub struct Network {
    inner: Mutex<Inner>,
    entropy: Arc<dyn Entropy>,
    trace: Arc<Trace>,
}

struct Inner {
    listening: BTreeMap<Address, Listener>,
    /// Links that are cut: from, to.
    cut: BTreeSet<(Address, Address)>,
    /// Of 1,000 messages, so many are lost.
    lost_per_mille: u64,
    max_latency_millis: u64,
}

#[derive(Clone)]
struct Listener {
    handler: Arc<dyn Handler>,
    power: CancellationToken,
}

impl Network {
    /// A network that loses nothing and takes at most 2 ms.
    pub fn new(entropy: Arc<dyn Entropy>, trace: Arc<Trace>) -> Arc<Self> {
        let inner = Inner {
            listening: BTreeMap::new(),
            cut: BTreeSet::new(),
            lost_per_mille: 0,
            max_latency_millis: 2,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            entropy,
            trace,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers calls to `address` with `handler`, while it has `power`.
    pub fn listen(&self, address: Address, handler: Arc<dyn Handler>, power: CancellationToken) {
        self.lock()
            .listening
            .insert(address, Listener { handler, power });
    }

    /// Cuts the link from one to the other, or mends it.
    pub fn set_cut(&self, from: &Address, to: &Address, cut: bool) {
        let link = (from.clone(), to.clone());
        let mut inner = self.lock();
        if cut {
            inner.cut.insert(link);
        } else {
            inner.cut.remove(&link);
        }
    }

    /// Mends all links.
    pub fn mend(&self) {
        self.lock().cut.clear();
    }

    /// Sets how many of 1,000 messages are lost, and the longest latency.
    pub fn set_quality(&self, lost_per_mille: u64, max_latency_millis: u64) {
        let mut inner = self.lock();
        inner.lost_per_mille = lost_per_mille;
        inner.max_latency_millis = max_latency_millis;
    }

    /// What one machine calls others with.
    pub fn transport(
        self: &Arc<Self>,
        own: Address,
        power: CancellationToken,
    ) -> Arc<dyn Transport> {
        Arc::new(Link {
            network: self.clone(),
            own,
            power,
        })
    }

    /// How long a message takes; `None` when it is lost.
    fn pass(&self, from: &Address, to: &Address) -> Option<Duration> {
        let inner = self.lock();
        let latency = Duration::from_millis(self.entropy.below(inner.max_latency_millis + 1));
        let lost = self.entropy.below(1_000) < inner.lost_per_mille;
        let cut = inner.cut.contains(&(from.clone(), to.clone()));
        (!lost && !cut).then_some(latency)
    }

    fn listener(&self, to: &Address) -> Option<Listener> {
        self.lock().listening.get(to).cloned()
    }
}

struct Link {
    network: Arc<Network>,
    own: Address,
    power: CancellationToken,
}

impl Transport for Link {
    fn call(&self, to: &Address, call: Call) -> BoxFuture<'static, Result<Reply, TransportError>> {
        let (network, own, to) = (self.network.clone(), self.own.clone(), to.clone());
        let power = self.power.clone();
        let limit = call.deadline;
        async move {
            match tokio::time::timeout(limit, carry(network, own, to, power, call)).await {
                Ok(result) => result,
                Err(_) => Err(TransportError::Deadline { limit }),
            }
        }
        .boxed()
    }
}

async fn carry(
    network: Arc<Network>,
    own: Address,
    to: Address,
    power: CancellationToken,
    call: Call,
) -> Result<Reply, TransportError> {
    network
        .trace
        .note(&format!("{own} > {to} {} {}", call.path, call.head.len()));
    let Some(latency) = network.pass(&own, &to) else {
        return std::future::pending().await;
    };
    tokio::time::sleep(latency).await;
    let Some(listener) = network.listener(&to) else {
        return Err(TransportError::Connect {
            to,
            reason: "nobody listens".into(),
        });
    };
    if listener.power.is_cancelled() {
        // A machine without power is silent.
        return std::future::pending().await;
    }
    let body = relay(
        network.clone(),
        own.clone(),
        to.clone(),
        power.clone(),
        call.body,
    );
    let call = Call { body, ..call };
    let handled = answer(&listener, call).await?;
    let Some(latency) = network.pass(&to, &own) else {
        return std::future::pending().await;
    };
    tokio::time::sleep(latency).await;
    let body = relay(
        network.clone(),
        to.clone(),
        own.clone(),
        listener.power,
        handled.body,
    );
    network
        .trace
        .note(&format!("{own} < {to} {}", handled.head.len()));
    Ok(Reply {
        head: handled.head,
        body,
    })
}

/// Runs the handler as a task of the machine that is called: it goes on when
/// the caller hangs up, and ends when that machine loses power.
async fn answer(listener: &Listener, call: Call) -> Result<Reply, TransportError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (handler, power) = (listener.handler.clone(), listener.power.clone());
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the simulation's own executor"
    )]
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = power.cancelled() => {}
            reply = handler.handle(call) => {
                // The caller may have given up.
                let _ = sender.send(reply);
            }
        }
    });
    match receiver.await {
        Ok(reply) => Ok(reply),
        Err(_) => std::future::pending().await,
    }
}

/// A body on its way: each piece takes a while, and a link that is cut in the
/// middle breaks it.
fn relay(
    network: Arc<Network>,
    from: Address,
    to: Address,
    power: CancellationToken,
    body: Body,
) -> Body {
    let pieces = match body {
        Body::Empty => return Body::Empty,
        Body::Full(bytes) => return Body::Full(bytes),
        Body::Stream(pieces) => pieces,
    };
    let broken = || TransportError::Broken {
        reason: "the link was cut".into(),
    };
    let pieces = pieces.then(move |piece: Result<Bytes, TransportError>| {
        let passed = network.pass(&from, &to);
        let dead = power.is_cancelled();
        async move {
            match passed {
                Some(latency) if !dead => {
                    tokio::time::sleep(latency).await;
                    piece
                }
                _ => Err(broken()),
            }
        }
    });
    Body::stream(pieces)
}
