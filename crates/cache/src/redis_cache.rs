//! The cache of a Redis server, 7 and later.
//!
//! Keys: `hf:c:` values, `hf:r:` token buckets (hashes), `hf:l:` locks. All
//! expire, and none is missed when the server forgets everything.
//!
//! One task owns the connection: it connects, looks whether the server answers
//! and gives locks back. Calls use the connection there is, or do without:
//! none waits for a server to come back.
#![allow(
    clippy::disallowed_types,
    reason = "the server's client brings its own sockets; the simulation uses the embedded cache"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use holdfast_runtime::clock::within;
use holdfast_runtime::host::tls::Trust;
use holdfast_runtime::{Env, ServerUrl, Shutdown};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, RedisResult, Script,
};
use tokio::sync::{Notify, mpsc};

use crate::breaker::Breaker;
use crate::bucket::SCRIPT;
use crate::embedded::{LocalBuckets, held};
use crate::{Allowance, CALL_DEADLINE, Cache, CacheLock, LockToken, MAX_VALUE_BYTES, Rate, Unlock};

/// How long a connection may take, name resolution included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// How often the server is asked whether it is there, and a lost connection is tried again.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long that may take: slow is well above any healthy answer.
const PING_DEADLINE: Duration = Duration::from_millis(500);
/// Unanswered pings after which the connection is made anew: a machine that
/// was unplugged never closes one.
const PINGS_TO_RECONNECT: u32 = 3;
/// Locks that wait to be given back; those beyond end by their time.
const MAX_UNLOCKS: usize = 1_000;

/// Deletes a lock that still has our token.
const UNLOCK: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A Redis server shared by the processes of a cluster.
pub struct RedisCache {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    // Neither is held across an await.
    connection: Mutex<Option<MultiplexedConnection>>,
    breaker: Mutex<Breaker>,
    /// Wakes the owner of the connection when a call found it broken.
    broken: Notify,
    unlocks: mpsc::Sender<(String, LockToken)>,
    take_token: Script,
    local: LocalBuckets,
}

/// Why a call had no result.
enum Failure {
    /// Nothing was asked.
    Away,
    /// No answer in time.
    Slow,
    /// An answer that is an error.
    Broken(redis::RedisError),
}

impl RedisCache {
    /// A cache at `url` (`redis://` or `rediss://`, name and password
    /// percent-encoded). Returns at once and connects in the background; with
    /// `rediss://` only to whom `trust` believes. When the address changes it
    /// connects anew.
    pub fn start(env: Env, url: ServerUrl, trust: Trust, shutdown: Shutdown) -> Arc<Self> {
        let (unlocks, unlocking) = mpsc::channel(MAX_UNLOCKS);
        let inner = Arc::new(Inner {
            env: env.clone(),
            connection: Mutex::default(),
            breaker: Mutex::default(),
            broken: Notify::new(),
            unlocks,
            take_token: Script::new(SCRIPT),
            local: LocalBuckets::default(),
        });
        let used = url.now();
        match read_url(&used) {
            Ok(server) => {
                let keeper = Keeper {
                    inner: inner.clone(),
                    url,
                    used,
                    server,
                    trust,
                    unlocking,
                };
                env.tasks
                    .spawn("cache keeper", keeper.keep(shutdown).boxed());
            }
            Err(error) => tracing::error!(error, "the cache is not used"),
        }
        Arc::new(Self { inner })
    }

    /// Whether `url` can be used, for settings to be checked at the edge.
    ///
    /// # Errors
    /// What is wrong with it; never the URL itself, which holds a password.
    pub fn check_url(url: &str) -> Result<(), String> {
        read_url(url).map(|_| ())
    }
}

/// Where the server is.
struct Server {
    client: Client,
    encrypted: bool,
}

fn read_url(url: &str) -> Result<Server, String> {
    let (rest, encrypted) = match (url.strip_prefix("redis://"), url.strip_prefix("rediss://")) {
        (Some(rest), _) => (rest, false),
        (_, Some(rest)) => (rest, true),
        _ => {
            return Err("the address of the cache must begin with redis:// or rediss://".into());
        }
    };
    // The handshake is ours, so that both sides of it are made in one place.
    let client = Client::open(format!("redis://{rest}")).map_err(|_| {
        "the address of the cache is not of the form redis://name:password@host:6379/0, percent-encoded"
    })?;
    Ok(Server { client, encrypted })
}

impl Inner {
    /// Asks the server, if it is there and the breaker lets us.
    async fn ask<T: FromRedisValue>(&self, call: &'static str, command: &Cmd) -> Option<T> {
        let asked = self.within_limits(|mut connection| async move {
            command.query_async::<T>(&mut connection).await
        });
        self.settle(call, asked.await)
    }

    async fn within_limits<T, F>(
        &self,
        ask: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = redis::RedisResult<T>>,
    {
        let clock = &*self.env.clock;
        let connection = held(&self.connection).clone().ok_or(Failure::Away)?;
        if !held(&self.breaker).admits(clock.monotonic()) {
            return Err(Failure::Away);
        }
        match within(clock, CALL_DEADLINE, ask(connection)).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(Failure::Broken(error)),
            None => Err(Failure::Slow),
        }
    }

    /// Tells the breaker and the metrics what became of a call.
    fn settle<T>(&self, call: &'static str, result: Result<T, Failure>) -> Option<T> {
        let label = match &result {
            Ok(_) => "ok",
            Err(Failure::Away) => "away",
            Err(Failure::Slow) => "slow",
            Err(Failure::Broken(_)) => "error",
        };
        metrics::counter!("holdfast_cache_calls_total", "call" => call, "result" => label)
            .increment(1);
        match result {
            Ok(answer) => {
                held(&self.breaker).succeeded();
                return Some(answer);
            }
            Err(Failure::Away) => return None,
            Err(Failure::Slow) => {}
            Err(Failure::Broken(error)) => {
                tracing::debug!(%error, call, "the cache answers with an error");
                if error.is_unrecoverable_error() || error.is_io_error() {
                    *held(&self.connection) = None;
                    self.broken.notify_one();
                }
            }
        }
        held(&self.breaker).failed(self.env.clock.monotonic());
        None
    }

    async fn get(&self, key: String) -> Option<Bytes> {
        // A range, so that a value that is not ours cannot fill the memory.
        // Without the key it is empty, which is why no empty value is kept.
        let mut command = redis::cmd("GETRANGE");
        command
            .arg(format!("hf:c:{key}"))
            .arg(0)
            .arg(MAX_VALUE_BYTES);
        let value: Vec<u8> = self.ask("get", &command).await?;
        let found = !value.is_empty() && value.len() <= MAX_VALUE_BYTES;
        let label = if found { "hit" } else { "miss" };
        metrics::counter!("holdfast_cache_lookups_total", "result" => label).increment(1);
        found.then(|| value.into())
    }

    async fn put(&self, key: String, value: Bytes, ttl: Duration) {
        let mut command = redis::cmd("SET");
        command.arg(format!("hf:c:{key}")).arg(&value[..]);
        command.arg("PX").arg(millis(ttl));
        // Not kept is not wrong.
        let _: Option<redis::Value> = self.ask("put", &command).await;
    }

    async fn allow(&self, bucket: String, rate: Rate) -> Allowance {
        let sane = rate.sane();
        let mut script = self.take_token.key(format!("hf:r:{bucket}"));
        script.arg(sane.per_second).arg(sane.burst);
        let asked = self
            .within_limits(|mut connection| async move {
                script.invoke_async::<u64>(&mut connection).await
            })
            .await;
        match self.settle("allow", asked) {
            Some(0) => Allowance::Allowed,
            Some(millis) => Allowance::Refused {
                retry_after: Duration::from_millis(millis),
            },
            None => self.local.take(&bucket, rate, self.env.clock.monotonic()),
        }
    }

    async fn lock(self: Arc<Self>, name: String, ttl: Duration) -> Option<CacheLock> {
        let token = self.env.entropy.id();
        let mut command = redis::cmd("SET");
        command.arg(format!("hf:l:{name}")).arg(&token[..]);
        command.arg("NX").arg("PX").arg(millis(ttl));
        match self.ask::<Option<String>>("lock", &command).await {
            Some(Some(_)) => Some(CacheLock::held(self, name, token)),
            Some(None) => None,
            None => Some(CacheLock::unasked()),
        }
    }
}

/// A time to live as the server takes it: at least a millisecond.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, 1 << 50)
}

impl Unlock for Inner {
    fn unlock(&self, name: &str, token: LockToken) {
        // Full, or nobody there: the lock ends by its time.
        let _ = self.unlocks.try_send((name.to_owned(), token));
    }
}

impl Cache for RedisCache {
    fn get(&self, key: &str) -> BoxFuture<'_, Option<Bytes>> {
        self.inner.get(key.to_owned()).boxed()
    }

    fn put(&self, key: &str, value: Bytes, ttl: Duration) -> BoxFuture<'_, ()> {
        if value.is_empty() || value.len() > MAX_VALUE_BYTES {
            return std::future::ready(()).boxed();
        }
        self.inner.put(key.to_owned(), value, ttl).boxed()
    }

    fn allow(&self, bucket: &str, rate: Rate) -> BoxFuture<'_, Allowance> {
        self.inner.allow(bucket.to_owned(), rate).boxed()
    }

    fn try_lock(&self, name: &str, ttl: Duration) -> BoxFuture<'_, Option<CacheLock>> {
        self.inner.clone().lock(name.to_owned(), ttl).boxed()
    }

    fn healthy(&self) -> bool {
        held(&self.inner.connection).is_some() && held(&self.inner.breaker).closed()
    }
}

/// The one task that owns the connection.
struct Keeper {
    inner: Arc<Inner>,
    url: ServerUrl,
    /// The address that `server` was read from.
    used: Arc<str>,
    server: Server,
    trust: Trust,
    unlocking: mpsc::Receiver<(String, LockToken)>,
}

impl Keeper {
    async fn keep(mut self, shutdown: Shutdown) {
        let mut unanswered = 0;
        loop {
            self.follow();
            if held(&self.inner.connection).is_none() {
                unanswered = 0;
                self.connect().await;
            } else if self.ping().await {
                unanswered = 0;
            } else {
                unanswered += 1;
                if unanswered >= PINGS_TO_RECONNECT {
                    *held(&self.inner.connection) = None;
                    continue;
                }
            }
            let healthy = held(&self.inner.connection).is_some() && unanswered == 0;
            metrics::gauge!("holdfast_cache_healthy").set(if healthy { 1.0 } else { 0.0 });
            let pause = self.inner.env.clock.sleep(PING_INTERVAL);
            tokio::select! {
                biased;
                // What is being drained still uses the cache: keep what there
                // is, and give back the locks.
                () = shutdown.begun() => break,
                () = self.unlock_until(pause) => {}
            }
        }
        self.unlock_until(std::future::pending()).await;
    }

    /// Takes another address, or another login, where there is one.
    fn follow(&mut self) {
        let url = self.url.now();
        if url == self.used {
            return;
        }
        match read_url(&url) {
            Ok(server) => {
                self.server = server;
                *held(&self.inner.connection) = None;
            }
            Err(error) => tracing::error!(error, "the new address of the cache is not used"),
        }
        self.used = url;
    }

    /// Gives locks back until `end`, or until a call finds the connection broken.
    async fn unlock_until(&mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let script = Script::new(UNLOCK);
        loop {
            tokio::select! {
                biased;
                Some((name, token)) = self.unlocking.recv() => {
                    let mut call = script.key(format!("hf:l:{name}"));
                    call.arg(&token[..]);
                    let asked = self
                        .inner
                        .within_limits(|mut connection| async move {
                            call.invoke_async::<u64>(&mut connection).await
                        })
                        .await;
                    // A lock that is not given back ends by its time.
                    let _: Option<u64> = self.inner.settle("unlock", asked);
                }
                () = &mut end => return,
                // Not at once again: a server that refuses us stays unbothered
                // until the pause is over.
                () = self.inner.broken.notified() => {}
            }
        }
    }

    async fn connect(&self) {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_DEADLINE))
            .set_response_timeout(Some(PING_DEADLINE));
        let attempt = self.attempt(config);
        match within(&*self.inner.env.clock, 2 * CONNECT_DEADLINE, attempt).await {
            Some(Ok(connection)) => {
                *held(&self.inner.connection) = Some(connection);
                held(&self.inner.breaker).succeeded();
                tracing::info!("connected to the cache");
            }
            Some(Err(error)) => tracing::debug!(%error, "cannot reach the cache"),
            None => tracing::debug!("the cache does not answer"),
        }
    }

    async fn attempt(&self, config: AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        let Server { client, encrypted } = &self.server;
        let place = client.get_connection_info();
        let (true, ConnectionAddr::Tcp(host, port)) = (*encrypted, place.addr()) else {
            return client
                .get_multiplexed_async_connection_with_config(&config)
                .await;
        };
        let stream = self.trust.connect(host, *port).await?;
        let settings = place.redis_settings();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config).await?;
        // It ends with the last copy of the connection.
        let tasks = &self.inner.env.tasks;
        tasks.spawn("cache connection", driver.boxed());
        Ok(connection)
    }

    async fn ping(&self) -> bool {
        let Some(mut connection) = held(&self.inner.connection).clone() else {
            return false;
        };
        let command = redis::cmd("PING");
        let asked = command.query_async::<String>(&mut connection);
        matches!(
            within(&*self.inner.env.clock, PING_DEADLINE, asked).await,
            Some(Ok(_))
        )
    }
}
