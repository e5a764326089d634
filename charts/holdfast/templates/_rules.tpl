{{/*
What the operator may do in a namespace that it looks after. It lists what it
does and nothing else: a test holds it against what was used.
*/}}
{{- define "holdfast.rules" -}}
- apiGroups: [holdfast.dev]
  resources: [storageclusters]
  verbs: [get, list, watch]
- apiGroups: [holdfast.dev]
  resources: [storageclusters/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [statefulsets, deployments]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [list, watch, create, patch, delete]
# These go with the resource that owns them, and never before it.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch, create, patch, delete]
# Credentials outlive the resource that they were made for, as volumes do: they
# are never deleted.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# Pods are made by their StatefulSet or Deployment; the operator replaces them.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, delete]
# Claims are made by the StatefulSet; the operator makes them larger, and deletes
# those of nodes that were given up.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch, delete]
# Why a volume does not grow, or is not made.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Where these kinds exist.
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors, prometheusrules]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [list, watch, create, patch, delete]
{{- end }}
