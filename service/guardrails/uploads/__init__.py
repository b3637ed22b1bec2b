"""Files from strangers: bounded while they arrive, believed by nobody until they were inspected and scanned.

Protects from (OWASP File Upload Cheat Sheet; ASVS 5.2, 5.3, 5.4): a body without end or at a byte a second, names that
climb or lie, a page or a program in the clothes of a picture, archives that unpack to terabytes, macros, decoders that
are attacked by what they decode.

How to use, in pages.py or api.py:

    @router.post("/files")                       # a fixed path: the bounds are found by it
    @limit(UPLOAD)
    @accept_upload(FILES)                        # the policy: kinds, size, time
    async def upload(request: Request, ctx: Ctx) -> Response:
        incoming = await arriving(request)       # fields and the file's header have come, the file has not
        row = await actions.reserve(ctx, ...)    # quota, before the first byte of the file is read
        return After(partial(intake.receive, ...))   # incoming.parts(check), with no transaction open

A program's route takes KeyCtx and an IdempotencyKey (features.files.api). Either way the login or key comes first: only
then one of the few places for files is taken, and the form's fields are read.

Limits: only the name and the first bytes are looked at here. Later, in the worker, libmagic and a real decoder must
agree with them, and a virus scanner with all three (features.files.flows), before anybody is handed the file.
"""
