-- Keeps the search words equal to name and description, whoever writes them.
CREATE FUNCTION index_indicator_words() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM indicator_words WHERE organization_id = NEW.organization_id AND indicator_id = NEW.id;
    INSERT INTO indicator_words (organization_id, word, indicator_id)
    SELECT NEW.organization_id, left(word, 100), NEW.id
    FROM unnest(tsvector_to_array(to_tsvector('simple', NEW.name || ' ' || NEW.description))) AS word
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER indicator_words_on_insert AFTER INSERT ON indicators
    FOR EACH ROW EXECUTE FUNCTION index_indicator_words();

CREATE TRIGGER indicator_words_on_change AFTER UPDATE OF name, description ON indicators
    FOR EACH ROW WHEN (OLD.name IS DISTINCT FROM NEW.name OR OLD.description IS DISTINCT FROM NEW.description)
    EXECUTE FUNCTION index_indicator_words();

GRANT DELETE ON indicator_words TO ballast_app;
