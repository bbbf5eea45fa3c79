-- The trace of the request that deleted the profile (W3C Trace Context); empty for older entries.
ALTER TABLE outbox ADD COLUMN traceparent text NOT NULL DEFAULT '';
