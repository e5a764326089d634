//! services/node
