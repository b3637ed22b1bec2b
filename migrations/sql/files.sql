-- Whatever gives up a key has its object removed: a purge, an organization's end and a replaced file alike. In the same
-- transaction, so that a row never goes without its bytes being sent after it.
CREATE FUNCTION remove_file_object() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO file_removals (key, asked_at) VALUES (OLD.key, now()) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER file_objects_on_delete AFTER DELETE ON files
    FOR EACH ROW WHEN (OLD.key <> '') EXECUTE FUNCTION remove_file_object();

CREATE TRIGGER file_objects_on_change AFTER UPDATE OF key ON files
    FOR EACH ROW WHEN (OLD.key <> '' AND OLD.key IS DISTINCT FROM NEW.key) EXECUTE FUNCTION remove_file_object();
