-- How often dataranges of it were removed. An import that finds another number than before it listed the bucket has seen
-- objects that may be gone by now, and lists anew.
ALTER TABLE datas3ts ADD COLUMN removals bigint NOT NULL DEFAULT 0;
