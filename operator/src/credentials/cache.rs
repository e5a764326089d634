//! Which pods of Redis take a password: each is asked, since each reads its
//! passwords when the kubelet has brought them.

use std::net::IpAddr;

use futures_util::future::join_all;
use holdfast_plan::names::{self, Component};
use holdfast_runtime::host::tls::Trust;
use kube::ResourceExt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Login;
use crate::loaded::{DEADLINE, address, part_of, shake_hands};
use crate::observe::Observed;

/// Each pod of Redis that counts, and whether it takes a password. `trust` is
/// given where the cluster encrypts, and holds nothing where nothing is trusted yet.
pub async fn those_that_take(
    observed: &Observed,
    trust: Option<Option<Trust>>,
    login: &Login,
) -> Vec<(String, bool)> {
    let pods = observed.pods.iter();
    let caches = pods.filter(|pod| part_of(pod) == Some(Component::Redis));
    let asked = caches.map(|pod| async {
        let takes = match address(pod) {
            Some(ip) => {
                let asked = takes(&observed.name, ip, trust.as_ref(), login);
                tokio::time::timeout(DEADLINE, asked).await.ok().flatten()
            }
            None => None,
        };
        (pod.name_any(), takes.is_some())
    });
    join_all(asked).await
}

async fn takes(
    cluster: &str,
    ip: IpAddr,
    trust: Option<&Option<Trust>>,
    login: &Login,
) -> Option<()> {
    match trust {
        Some(trust) => {
            let stream = shake_hands(cluster, Component::Redis, ip, trust.as_ref()?).await?;
            log_in(stream, login).await
        }
        None => {
            let stream = TcpStream::connect((ip, names::REDIS_PORT)).await.ok()?;
            log_in(stream, login).await
        }
    }
}

/// A server refuses a wrong password at once.
async fn log_in(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    login: &Login,
) -> Option<()> {
    let settings = RedisConnectionInfo::default().set_password(login.password.trim());
    let config = AsyncConnectionConfig::new();
    let connected = MultiplexedConnection::new_with_config(&settings, stream, config).await;
    connected.ok().map(|_| ())
}
