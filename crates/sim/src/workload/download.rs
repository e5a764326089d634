//! Downloads that are counted: reserved, used, and given back.

use holdfast_client::ClusterError;
use holdfast_metadata::command::{ByteSpan, Command, Outcome, Refusal, RequestEnd};
use holdfast_model::{ObjectKey, TicketId};

use super::{Client, said};

impl Client {
    /// Puts an object with a limit under a key of its own number: the limit is
    /// known before anybody can download it.
    pub(super) async fn put_limited(&self, key: &ObjectKey, limit: u32) {
        if self.journal.claim_limited(key, limit) {
            self.put(key, 500, Some(limit)).await;
        }
    }

    /// Downloads an object with a limit, or begins to.
    pub(super) async fn download(&self, key: &ObjectKey) {
        let Ok((group, Some(record), _)) = self.record(key).await else {
            return;
        };
        let ticket = TicketId::from_bytes(self.cluster.env().entropy.id());
        let range = ByteSpan {
            first: 0,
            end: record.content.size,
        };
        let name = key.as_str();
        let reserve = Command::ReserveDownload {
            bucket: self.bucket,
            key: key.clone(),
            version: record.version,
            ticket,
            range,
        };
        let reserved = self.command(group, reserve).await;
        self.tell(&format!("reserve {name}: {}", said(&reserved)));
        match reserved {
            Ok(Outcome::Reserved { .. }) => {}
            Err(ClusterError::Refused(Refusal::Invalid(why))) => {
                return self.wrong(format!("a reservation of {name} is senseless: {why}"));
            }
            _ => return,
        }
        let end = |end| Command::EndRequest {
            bucket: self.bucket,
            key: key.clone(),
            ticket,
            range,
            end,
        };
        if self.below(3) == 0 {
            // Nothing was sent.
            let back = self.command(group, end(RequestEnd::GivenBack)).await;
            return self.tell(&format!("give back {name}: {}", said(&back)));
        }
        self.journal.delivered(key);
        let sent = self.command(group, end(RequestEnd::Sent)).await;
        self.tell(&format!("sent {name}: {}", said(&sent)));
        if self.below(2) == 0 {
            // The download goes on under its ticket, and this time nothing is sent.
            let again = Command::UseTicket {
                bucket: self.bucket,
                key: key.clone(),
                ticket,
                range,
            };
            if self.command(group, again).await.is_ok() {
                let back = self.command(group, end(RequestEnd::GivenBack)).await;
                self.tell(&format!("give a part back {name}: {}", said(&back)));
            }
        }
    }
}
