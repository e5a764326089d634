//! The network between machines: each message takes a while of its own, so that
//! they overtake each other; is lost, comes much later, comes twice, or is cut
//! off by a partition. Calls to a machine without power are never answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use holdfast_metadata::protocol::{self, MembersRequest, RaftBatch};
use holdfast_model::GroupId;
use holdfast_runtime::transport::Handler;
use holdfast_runtime::{Address, Body, Call, Entropy, Reply, Transport, TransportError};
use tokio_util::sync::CancellationToken;

use crate::trace::Trace;

/// Sees each call as it leaves a machine.
pub type Witness = Arc<dyn Fn(&Address, &Call) + Send + Sync>;

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
    quality: Quality,
    /// How many times slower the links of a machine are.
    slow: BTreeMap<Address, u64>,
    /// A group of which no Raft message comes through.
    silenced: Option<GroupId>,
    witness: Option<Witness>,
}

/// How good the links are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quality {
    /// Of 1,000 messages, so many are lost.
    pub lost_per_mille: u64,
    /// The longest that most messages take.
    pub max_latency_millis: u64,
    /// Of 1,000 messages, so many come late.
    pub late_per_mille: u64,
    /// How late at most.
    pub late_millis: u64,
    /// Of 1,000 calls, so many come a second time, at most so late.
    pub repeated_per_mille: u64,
}

/// Links that lose nothing and take at most 2 ms.
pub const GOOD: Quality = Quality {
    lost_per_mille: 0,
    max_latency_millis: 2,
    late_per_mille: 0,
    late_millis: 0,
    repeated_per_mille: 0,
};

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
            quality: GOOD,
            slow: BTreeMap::new(),
            silenced: None,
            witness: None,
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
        let mut inner = self.lock();
        inner.cut.clear();
        inner.slow.clear();
        inner.quality = GOOD;
        inner.silenced = None;
    }

    /// Ends the world: handlers hold nodes, which hold the network.
    pub fn close(&self) {
        let mut inner = self.lock();
        let listening = std::mem::take(&mut inner.listening);
        let witness = inner.witness.take();
        drop(inner);
        // Dropped without the lock, since what goes may still look at links.
        drop((listening, witness));
    }

    /// Sets how good the links are.
    pub fn set_quality(&self, quality: Quality) {
        self.lock().quality = quality;
    }

    /// Makes all links of a machine so many times slower.
    pub fn set_slow(&self, address: &Address, times: u64) {
        self.lock().slow.insert(address.clone(), times);
    }

    /// Loses every Raft message of a group, or of none.
    pub fn silence(&self, group: Option<GroupId>) {
        self.lock().silenced = group;
    }

    /// Shows `witness` each call as it leaves a machine.
    pub fn watch(&self, witness: Witness) {
        self.lock().witness = Some(witness);
    }

    /// Takes the silenced group's messages out of a call.
    fn filter(&self, call: &mut Call) {
        let Some(silenced) = self.lock().silenced else {
            return;
        };
        if call.path == protocol::RAFT
            && let Ok(mut batch) = minicbor::decode::<RaftBatch>(&call.head)
        {
            batch.messages.retain(|message| message.group != silenced);
            call.head = protocol::encode(&batch);
        }
    }

    /// When a copy of a call comes, if one does.
    fn repeats(&self) -> Option<Duration> {
        let Quality {
            repeated_per_mille,
            late_millis,
            ..
        } = self.lock().quality;
        let repeated = repeated_per_mille > 0 && self.entropy.below(1_000) < repeated_per_mille;
        repeated.then(|| Duration::from_millis(self.entropy.below(late_millis + 1)))
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
        let quality = inner.quality;
        let times = |end| inner.slow.get(end).copied().unwrap_or(1);
        let mut millis = self.entropy.below(quality.max_latency_millis + 1);
        millis *= times(from).max(times(to));
        if quality.late_per_mille > 0 && self.entropy.below(1_000) < quality.late_per_mille {
            millis += self.entropy.below(quality.late_millis + 1);
        }
        let latency = Duration::from_millis(millis);
        let lost = self.entropy.below(1_000) < quality.lost_per_mille;
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
    mut call: Call,
) -> Result<Reply, TransportError> {
    if power.is_cancelled() {
        // Nothing leaves a machine without power.
        return std::future::pending().await;
    }
    let witness = network.lock().witness.clone();
    if let Some(witness) = witness {
        witness(&own, &call);
    }
    network.filter(&mut call);
    if call.path == protocol::MEMBERS
        && let Ok(request) = minicbor::decode::<MembersRequest>(&call.head)
    {
        let (group, step) = (request.group, request.step);
        let what = format!("{own} asks {to} of group {group}: {step:?}");
        network.trace.tell(&what);
    }
    network
        .trace
        .note(&format!("{own} > {to} {} {}", call.path, call.head.len()));
    let Some(latency) = network.pass(&own, &to) else {
        return std::future::pending().await;
    };
    if let Some(later) = network.repeats()
        && let Some(copy) = copy_of(&call)
    {
        repeat(network.clone(), to.clone(), latency + later, copy);
    }
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

/// The same call again, where its body can be had twice.
fn copy_of(call: &Call) -> Option<Call> {
    let body = match &call.body {
        Body::Empty => Body::Empty,
        Body::Full(bytes) => Body::Full(bytes.clone()),
        Body::Stream(_) => return None,
    };
    Some(Call {
        path: call.path,
        head: call.head.clone(),
        body,
        deadline: call.deadline,
        request_id: call.request_id.clone(),
    })
}

/// Brings a copy of a call to whoever listens then; nobody hears the answer.
fn repeat(network: Arc<Network>, to: Address, later: Duration, call: Call) {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the simulation's own executor"
    )]
    tokio::spawn(async move {
        tokio::time::sleep(later).await;
        if let Some(listener) = network.listener(&to).filter(|l| !l.power.is_cancelled()) {
            network.trace.note(&format!("again > {to} {}", call.path));
            // The first call's sender has its answer, or waits for it.
            let _ = answer(&listener, call).await;
        }
    });
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
