"""What the scanner found, in whichever organization: for staff, who see ids and the scanner's word, never the file."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.features.files import queries
from service.guardrails.contexts import StaffCtx
from service.guardrails.pagination import PageRequest
from service.web.staff_home import StaffPage
from service.web.templating import render

router = APIRouter()
STAFF_PAGES = [StaffPage("Quarantine", "/staff/files", "What the scanner found in files of any organization.", 60)]


@router.get("/staff/files")
async def list_findings(request: Request, ctx: StaffCtx, page: PageRequest) -> Response:
    return render(request, "files/findings.html", found=await queries.list_findings(ctx, page))
