//! From a StorageCluster to the Kubernetes objects that it means: pure functions.
