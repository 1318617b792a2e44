{{/* What every host is given: where the shared parts are, and the one milton.yaml. */}}
{{- define "milton.environment" -}}
- {name: MILTON_POSTGRES_HOST, value: {{ .Values.postgres.host | quote }}}
- {name: MILTON_POSTGRES_PORT, value: {{ .Values.postgres.port | quote }}}
- {name: MILTON_POSTGRES_USER, value: {{ .Values.postgres.user | quote }}}
- {name: MILTON_POSTGRES_DB, value: {{ .Values.postgres.database | quote }}}
- {name: MILTON_BROKER_URL, value: {{ .Values.redis | quote }}}
- {name: MILTON_EVIDENCE_URL, value: {{ .Values.evidence | quote }}}
- {name: MILTON_REGISTRY, value: {{ .Values.registry | quote }}}
- {name: AWS_ENDPOINT_URL, value: {{ .Values.objects.endpoint | quote }}}
- {name: AWS_DEFAULT_REGION, value: {{ .Values.objects.region | quote }}}
{{- range tuple "MILTON_POSTGRES_PASSWORD" "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
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
