-- What a video's stream is, as its description tells (app/video/probe.py); and since when a rendition is made, so that
-- whoever waits can be told how long.
alter table rendition add column description jsonb, add column started_at timestamptz;
