//! services/worker
