-- Who sees an organization, a membership, an invitation, beyond the tenant's own view that migrations/ddl.py writes.

-- Before somebody is a member, an invitation is their only right: whoever shows the hash of its token sees that one
-- row, and whoever has proved to own the address it was sent to sees it among their own.
CREATE POLICY invitations_by_token ON invitations FOR SELECT TO ballast_app
    USING (token_hash = decode(nullif(current_setting('app.invitation', true), ''), 'hex'));
CREATE POLICY invitations_to_me ON invitations FOR SELECT TO ballast_app
    USING (email = (
        SELECT email FROM users
        WHERE id = nullif(current_setting('app.user', true), '')::uuid AND email_verified_at IS NOT NULL
    ));

-- People see their own places everywhere; changing one still needs to act for its organization.
CREATE POLICY memberships_own ON memberships FOR SELECT TO ballast_app
    USING (user_id = nullif(current_setting('app.user', true), '')::uuid);
GRANT DELETE ON memberships TO ballast_app;

-- The tenant itself: seen while acting for it, by everybody who has a place in it (to switch, and to restore it), and
-- by whoever sees an invitation to it (its name stands there).
-- PostgreSQL asks the policies in reverse order of their names and stops at the first yes: the cheap one, which every
-- request passes, must come last in the alphabet.
ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE ON organizations TO ballast_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON organizations TO ballast_maintenance;

CREATE POLICY organizations_tenant ON organizations TO ballast_app
    USING (id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY organizations_inviting ON organizations FOR SELECT TO ballast_app
    USING (id IN (SELECT organization_id FROM invitations));
CREATE POLICY organizations_of_member ON organizations FOR SELECT TO ballast_app
    USING (id IN (
        SELECT organization_id FROM memberships
        WHERE user_id = nullif(current_setting('app.user', true), '')::uuid
    ));
CREATE POLICY organizations_maintenance ON organizations TO ballast_maintenance USING (true) WITH CHECK (true);
