{{/* What every host is given: where the shared parts are, and the one milton.yaml. */}}
{{- define "milton.environment" -}}
- {name: PGHOST, value: {{ .Values.postgres.host | quote }}}
- {name: PGPORT, value: {{ .Values.postgres.port | quote }}}
- {name: PGUSER, value: {{ .Values.postgres.user | quote }}}
- {name: PGDATABASE, value: {{ .Values.postgres.database | quote }}}
- {name: MILTON_BROKER_URL, value: {{ .Values.redis | quote }}}
- {name: MILTON_EVIDENCE_URL, value: {{ .Values.evidence | quote }}}
- {name: MILTON_REGISTRY, value: {{ .Values.registry | quote }}}
- {name: AWS_ENDPOINT_URL, value: {{ .Values.objects.endpoint | quote }}}
- {name: AWS_DEFAULT_REGION, value: {{ .Values.objects.region | quote }}}
{{- range tuple "PGPASSWORD" "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- {name: {{ . }}, valueFrom: {secretKeyRef: {name: {{ $.Values.secret | quote }}, key: {{ . }}}}}
{{- end }}
{{- end }}

{{- define "milton.settings" -}}
{name: settings, mountPath: /var/lib/milton/milton.yaml, subPath: milton.yaml, readOnly: true}
{{- end }}

{{- define "milton.labels" -}}
app.kubernetes.io/name: milton
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}
