//! One connection to the broker with one channel, on which the queues are
//! known to exist.

use std::sync::Arc;
use std::time::Duration;

use holdfast_runtime::Clock;
use holdfast_runtime::clock::within;
use holdfast_runtime::host::tls::Trust;
use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::runtime::default_runtime;
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};

use super::{DEAD, TASKS};
use crate::QueueError;

/// How long a connection may take, name resolution, TLS and declarations included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Seconds between heartbeats where the URL says nothing: a broker that is
/// silent for two of them is gone.
const HEARTBEAT_SECONDS: u16 = 5;
/// How often the broker delivers a message before it goes to the dead.
const DELIVERY_LIMIT: i64 = 20;
/// Messages the queue holds at most: 1,000 for each of the groups of a large cluster.
const MAX_MESSAGES: i64 = 200_000;
/// Dead messages that are kept to be looked at; the oldest go first.
const MAX_DEAD_MESSAGES: i64 = 10_000;

/// A connection and its channel. Both end when the last copy is dropped.
#[derive(Clone)]
pub(super) struct Link {
    connection: Arc<Connection>,
    pub(super) channel: Channel,
    url: Arc<str>,
}

impl Link {
    pub(super) fn alive(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Whether it was opened with this address and login.
    pub(super) fn is_to(&self, url: &str) -> bool {
        *self.url == *url
    }

    /// Whether `channel` is this link's and still the one in use.
    pub(super) fn owns(&self, channel: &Channel) -> bool {
        self.channel == *channel
    }
}

/// Reads the broker's address, without ever showing its password.
pub(super) fn read_address(url: &str) -> Result<AMQPUri, QueueError> {
    let refuse = |why: &str| Err(QueueError::Address(why.into()));
    if !url.starts_with("amqp://") && !url.starts_with("amqps://") {
        return refuse("it must begin with amqp:// or amqps://");
    }
    let Ok(mut address) = url.parse::<AMQPUri>() else {
        return refuse(
            "it is not of the form amqp://name:password@host:5672/vhost, percent-encoded",
        );
    };
    if url.contains("@[") || url.contains("//[") {
        return refuse("name the host: bare IPv6 addresses are not supported");
    }
    // `amqp://host/` would be the virtual host with the empty name, which
    // nobody means.
    if address.vhost.is_empty() {
        address.vhost = "/".into();
    }
    address.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Ok(address)
}

/// Connects to an address, as it is written and as it was read, and declares
/// the queues.
pub(super) async fn open(
    clock: &dyn Clock,
    (url, address): (&Arc<str>, AMQPUri),
    trust: &Trust,
    role: &str,
) -> Result<Link, QueueError> {
    let name = format!("holdfast {role}");
    match within(clock, CONNECT_DEADLINE, connect(address, trust, name)).await {
        Some(Ok((connection, channel))) => Ok(Link {
            connection: Arc::new(connection),
            channel,
            url: url.clone(),
        }),
        Some(Err(error)) => Err(QueueError::Connect(error.to_string())),
        None => Err(QueueError::Deadline {
            attempted: "connecting",
            limit: CONNECT_DEADLINE,
        }),
    }
}

async fn connect(
    address: AMQPUri,
    trust: &Trust,
    name: String,
) -> lapin::Result<(Connection, Channel)> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    // The client adds these to the system's.
    let config = OwnedTLSConfig {
        identity: None,
        cert_chain: trust.own_pem(),
    };
    let runtime = default_runtime()?;
    let connection =
        Connection::connect_uri_with_config(address, properties, config, runtime).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    declare(&channel, DEAD, dead_arguments()).await?;
    declare(&channel, TASKS, task_arguments()).await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.into(), options, arguments)
        .await?;
    Ok(())
}

/// Messages in the queue of hints; fails when it does not exist.
pub(super) async fn count(channel: &Channel) -> lapin::Result<u32> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare(TASKS.into(), options, FieldTable::default())
        .await?;
    Ok(queue.message_count())
}

/// What the queue of hints is declared with. A broker refuses other arguments
/// for a queue that exists: a change here needs a new name.
fn task_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert(
        "x-delivery-limit".into(),
        AMQPValue::LongLongInt(DELIVERY_LIMIT),
    );
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_MESSAGES));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(DEAD));
    arguments
}

fn dead_arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert(
        "x-max-length".into(),
        AMQPValue::LongLongInt(MAX_DEAD_MESSAGES),
    );
    arguments.insert("x-overflow".into(), text("drop-head"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_may_be_percent_encoded() {
        let address = read_address("amqp://us%40er:p%2Fa%3As%25s@broker:5673/%2f").unwrap();
        assert_eq!(address.authority.userinfo.username, "us@er");
        assert_eq!(address.authority.userinfo.password, "p/a:s%s");
        assert_eq!(address.authority.host, "broker");
        assert_eq!(address.authority.port, 5673);
        assert_eq!(address.vhost, "/");
        assert_eq!(address.query.heartbeat, Some(HEARTBEAT_SECONDS));
    }

    #[test]
    fn the_usual_spellings_mean_the_default_virtual_host() {
        for url in [
            "amqp://a:b@broker",
            "amqp://a:b@broker/",
            "amqp://a:b@broker:5672/%2f",
        ] {
            assert_eq!(read_address(url).unwrap().vhost, "/", "{url}");
        }
    }

    #[test]
    fn a_bad_address_is_refused_without_showing_its_password() {
        for url in [
            "",
            "http://a:secret@broker",
            "amqp://a:secret@:x",
            "amqp://a:secret@[::1]:5672",
        ] {
            let error = read_address(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
