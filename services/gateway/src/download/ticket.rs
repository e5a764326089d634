//! Tickets: one download, however many requests it takes.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use holdfast_client::ClusterError;
use holdfast_metadata::command::{ByteSpan, Command, Outcome, Refusal};
use holdfast_model::times::MAX_TICKET_MILLIS;
use holdfast_model::{TicketId, Timestamp};

use super::settle::Settlement;
use crate::app::App;
use crate::error::ApiError;
use crate::files::lookup::{Found, QUERY_DEADLINE};
use crate::front::Context;

/// Carries the ticket, both ways.
pub const TICKET_HEADER: &str = "holdfast-ticket";
/// The same for browsers, bound to the file's path.
const TICKET_COOKIE: &str = "holdfast_ticket";

/// The tickets that a request shows.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Shown {
    /// In the header: the client means this one.
    pub header: Option<TicketId>,
    /// In a cookie: a browser sends it whether it is still good or not.
    pub cookie: Option<TicketId>,
}

impl Shown {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.header.is_none() && self.cookie.is_none()
    }
}

/// A download that may go ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// Its ticket.
    pub ticket: TicketId,
    /// When it ends.
    pub deadline: Timestamp,
    /// Whether it took one from the limit just now.
    pub new: bool,
}

impl Granted {
    /// The cookie for the browser: for this file's address alone, out of reach
    /// of scripts.
    pub fn cookie(&self, file: &str, now: Timestamp, https: bool) -> String {
        let seconds = self.deadline.since(now).min(MAX_TICKET_MILLIS) / 1_000;
        let secure = if https { "; Secure" } else { "" };
        format!(
            "{TICKET_COOKIE}={}; Path=/api/download/{file}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}",
            self.ticket
        )
    }
}

/// Reads the tickets of a request.
pub fn shown_tickets(headers: &HeaderMap) -> Result<Shown, ApiError> {
    let header = match headers.get(TICKET_HEADER) {
        Some(value) => Some(
            value
                .to_str()
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| ApiError::TicketEnded("it is no ticket".into()))?,
        ),
        None => None,
    };
    let cookie = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == TICKET_COOKIE)
        .and_then(|(_, value)| value.parse().ok());
    Ok(Shown { header, cookie })
}

/// Goes on with a ticket that was shown, or reserves a new download.
pub async fn reserve(
    app: &Arc<App>,
    context: &Context,
    found: &Found,
    shown: &Shown,
    span: ByteSpan,
) -> Result<(Granted, Settlement), ApiError> {
    if let Some(ticket) = shown.header {
        return propose(app, context, found, ticket, span, false).await;
    }
    if let Some(ticket) = shown.cookie {
        match propose(app, context, found, ticket, span, false).await {
            // A browser cannot know that its cookie is stale: a new download.
            Err(ApiError::Cluster(ClusterError::Refused(Refusal::TicketEnded(_)))) => {}
            other => return other,
        }
    }
    let ticket = TicketId::from_bytes(app.env.entropy.id());
    propose(app, context, found, ticket, span, true).await
}

async fn propose(
    app: &Arc<App>,
    context: &Context,
    found: &Found,
    ticket: TicketId,
    range: ByteSpan,
    new: bool,
) -> Result<(Granted, Settlement), ApiError> {
    // Before the proposal: whatever happens from here on is reported.
    let settlement = Settlement::new(app, found, ticket, range);
    let (bucket, key) = (found.address.bucket, found.address.key.clone());
    let command = match new {
        true => Command::ReserveDownload {
            bucket,
            key,
            version: found.record.version,
            ticket,
            range,
        },
        false => Command::UseTicket {
            bucket,
            key,
            ticket,
            range,
        },
    };
    let id = app.cluster.request_id();
    let proposed = app
        .cluster
        .propose(
            found.address.group,
            id,
            command,
            QUERY_DEADLINE,
            context.trace(),
        )
        .await;
    match proposed {
        Ok(Outcome::Reserved { deadline, .. }) => {
            let granted = Granted {
                ticket,
                deadline,
                new,
            };
            Ok((granted, settlement))
        }
        Ok(other) => Err(ApiError::Internal(format!(
            "a reservation answers {other:?}"
        ))),
        Err(ClusterError::Refused(refusal)) => {
            settlement.forget();
            Err(ClusterError::Refused(refusal).into())
        }
        // It may have been made: dropping the settlement gives it back.
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: &str = "0123456789abcdef0123456789abcdef";

    fn shown(pairs: &[(&'static str, &str)]) -> Result<Shown, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        shown_tickets(&headers).map_err(|error| error.row().code)
    }

    #[test]
    fn tickets_come_by_header_or_cookie() {
        let ticket: TicketId = TICKET.parse().unwrap();
        assert!(shown(&[]).unwrap().is_empty());
        assert_eq!(
            shown(&[(TICKET_HEADER, TICKET)]).unwrap().header,
            Some(ticket)
        );
        let cookies = format!("a=b; holdfast_ticket={TICKET}; c=d");
        assert_eq!(shown(&[("cookie", &cookies)]).unwrap().cookie, Some(ticket));
        assert_eq!(shown(&[(TICKET_HEADER, "x")]), Err("ticket_ended"));
        assert!(
            shown(&[("cookie", "holdfast_ticket=x")])
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn the_cookie_is_bound_to_the_file() {
        let granted = Granted {
            ticket: TICKET.parse().unwrap(),
            deadline: Timestamp(61_000),
            new: true,
        };
        assert_eq!(
            granted.cookie("f", Timestamp(1_000), true),
            format!(
                "holdfast_ticket={TICKET}; Path=/api/download/f; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
            )
        );
    }
}
