//! The certificates of a cluster, and their exchange.
//!
//! Pods mount three things: the Secret of their part with certificate and key,
//! and the Secret with the authorities that everybody trusts. What is in them is
//! decided here, of what is in them now and of what pods say that they have
//! loaded: nothing is remembered, so that an operator that dies between any two
//! writes goes on.
//!
//! One rule holds at every moment: a certificate is given to a part only when
//! every pod has said that it trusts its authority, and an authority is taken
//! away only when every pod has said that it has loaded a certificate of
//! another. So an authority is exchanged by adding the new one, switching, and
//! removing the old one. It is the same whether the operator's own authority is
//! exchanged, cert-manager's issuer has another one, or the mode changes between
//! the two.

pub mod decide;
pub mod making;
pub mod reading;
pub mod settle;
pub mod stored;

/// How long an authority of ours holds, in days.
pub const AUTHORITY_DAYS: i64 = 3_650;
/// How long a certificate of ours holds, in days.
pub const LEAF_DAYS: i64 = 90;
/// A day, in seconds.
pub const DAY_SECONDS: i64 = 86_400;
/// Clocks may differ by so much: a new certificate holds from before now.
pub const BACKDATED_SECONDS: i64 = 3_600;
