{{/*
What the operator may do in a namespace that it looks after. It lists what it
does and nothing else; what it makes itself it may also take away.
*/}}
{{- define "holdfast.rules" -}}
- apiGroups: [holdfast.dev]
  resources: [storageclusters]
  verbs: [get, list, watch, patch, update]
- apiGroups: [holdfast.dev]
  resources: [storageclusters/status]
  verbs: [get, patch, update]
- apiGroups: [apps]
  resources: [statefulsets, deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, serviceaccounts, configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
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
  verbs: [get, list, watch, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Where these kinds exist.
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors, prometheusrules]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
