//! Downloads that are counted: reserved, used, and given back.

use holdfast_client::ClusterError;
use holdfast_metadata::command::{ByteSpan, Command, Outcome, Refusal, RequestEnd};
use holdfast_model::{GroupId, ObjectKey, TicketId, VersionId};

use super::{Client, said};
use crate::history::{Action, Held};
use crate::journal::{Work, Written};

/// A download under way.
struct Download<'k> {
    key: &'k ObjectKey,
    group: GroupId,
    ticket: TicketId,
    range: ByteSpan,
    written: Written,
}

impl Client {
    /// Downloads an object with a limit, or begins to.
    pub(super) async fn download(&self, key: &ObjectKey) {
        let Ok((group, Some((record, written)))) = self.look(key).await else {
            return;
        };
        let download = Download {
            key,
            group,
            ticket: TicketId::from_bytes(self.cluster.env().entropy.id()),
            range: ByteSpan {
                first: 0,
                end: record.content.size,
            },
            written,
        };
        if !self.reserve(&download, record.version).await {
            return;
        }
        if self.below(3) == 0 {
            // Nothing was sent.
            return self.give_back(&download).await;
        }
        self.journal.delivered(key, written);
        let sent = self.end(&download, RequestEnd::Sent).await;
        let name = key.as_str();
        self.tell(&format!("sent {name}: {}", said(&sent)));
        if self.below(2) == 0 {
            // The download goes on under its ticket, and this time nothing is sent.
            let again = Command::UseTicket {
                bucket: self.bucket,
                key: key.clone(),
                ticket: download.ticket,
                range: download.range,
            };
            if self.command(group, again).await.is_ok() {
                let back = self.end(&download, RequestEnd::GivenBack).await;
                self.tell(&format!("give a part back {name}: {}", said(&back)));
            }
        }
    }

    /// Whether a download is reserved.
    async fn reserve(&self, download: &Download<'_>, version: VersionId) -> bool {
        let (key, value) = (download.key, download.written.value);
        let reserve = Command::ReserveDownload {
            bucket: self.bucket,
            key: key.clone(),
            version,
            ticket: download.ticket,
            range: download.range,
        };
        let begun = self.journal.trace().at();
        let called = self.journal.tick();
        let reserved = self.command(download.group, reserve).await;
        let name = key.as_str();
        let error = reserved.as_ref().err();
        self.journal.did(begun, Work::Reserve, error);
        self.tell(&format!("reserve {name}: {}", said(&reserved)));
        let (known, action) = match reserved {
            Ok(Outcome::Reserved { left, .. }) => {
                let left = Some(left);
                self.note(key, called, true, Action::Reserve(Held { value, left }));
                return true;
            }
            Err(ClusterError::OutcomeUnknown { .. }) => {
                self.journal.count(|counts| counts.unknown += 1);
                (false, Action::MayReserve(value))
            }
            Err(ClusterError::Refused(Refusal::Exhausted)) => (true, Action::UsedUp(value)),
            Err(ClusterError::Refused(Refusal::NoSuchObject)) => (true, Action::Gone(value)),
            Err(ClusterError::Refused(why)) => {
                self.wrong(format!("a reservation of {name} is refused: {why}"));
                return false;
            }
            Ok(other) => {
                self.wrong(format!("a reservation is answered with {other:?}"));
                return false;
            }
            Err(_) => {
                self.journal.count(|counts| counts.failed += 1);
                return false;
            }
        };
        self.note(key, called, known, action);
        false
    }

    /// Gives a download back of which nothing was sent.
    async fn give_back(&self, download: &Download<'_>) {
        let (key, value) = (download.key, download.written.value);
        let called = self.journal.tick();
        let back = self.end(download, RequestEnd::GivenBack).await;
        let name = key.as_str();
        self.tell(&format!("give back {name}: {}", said(&back)));
        match back {
            Ok(_) => self.note(key, called, true, Action::GiveBack(value)),
            Err(ClusterError::OutcomeUnknown { .. }) => {
                self.journal.count(|counts| counts.unknown += 1);
                self.note(key, called, false, Action::GiveBack(value));
            }
            // Its tickets go with an object.
            Err(ClusterError::Refused(Refusal::TicketEnded(_) | Refusal::NoSuchObject)) => {
                self.note(key, called, true, Action::Gone(value));
            }
            Err(ClusterError::Refused(why)) => {
                self.wrong(format!("a download of {name} cannot be given back: {why}"));
            }
            Err(_) => self.journal.count(|counts| counts.failed += 1),
        }
    }

    async fn end(&self, download: &Download<'_>, end: RequestEnd) -> Result<Outcome, ClusterError> {
        let end = Command::EndRequest {
            bucket: self.bucket,
            key: download.key.clone(),
            ticket: download.ticket,
            range: download.range,
            end,
        };
        self.command(download.group, end).await
    }
}
