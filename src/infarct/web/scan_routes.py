"""Routes for scans: worklist, upload, job control, images, masks, and downloads."""

from __future__ import annotations

import base64
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from infarct.core.errors import InfarctError, InputFileError
from infarct.reporting.reader import OUTLINE
from infarct.segmentation.models import model_names
from infarct.web import uploads
from infarct.web.security import REPORT_POLICY
from infarct.web.site import Site, json_body
from infarct.web.store import Job
from infarct.web.worklist import DOWNLOADS, IMAGES, Result

_AUTOMATIC = "lesion_mask_automatic.nii.gz"
_BLOCK = 1 << 20


def site_of(request: Request) -> Site:
    """Return the state of the server."""
    site: Site = request.app.state.site
    return site


async def list_scans(request: Request) -> Response:
    """Answer with the worklist."""
    site = site_of(request)
    site.worklist.refresh()
    return JSONResponse({"scans": site.rows()})


async def list_models(request: Request) -> Response:
    """Answer with the methods, the suggested one first."""
    first = site_of(request).settings.model
    names = list(dict.fromkeys([first, *model_names()]))
    return JSONResponse({"models": names, "default": first})


async def events(request: Request) -> Response:
    """Answer with server-sent events: the worklist after every change."""
    return StreamingResponse(site_of(request).events(), media_type="text/event-stream")


async def upload(request: Request) -> Response:
    """Receive a scan, check it, and queue it."""
    site = site_of(request)
    site.jobs.check_room()
    name = site.store.claim()
    try:
        job, preview = await _receive(request, site, name)
    except BaseException:
        # Refused, interrupted or failed: nothing of it is kept.
        if (known := next((j for j in site.jobs.all() if j.name == name), None)) is not None:
            site.jobs.forget(known)
        else:
            site.store.discard(name)
        raise
    body = {"id": job.id, "name": job.name, "findings": job.findings, "preview": preview}
    return JSONResponse(body, status_code=201)


async def _receive(request: Request, site: Site, name: str) -> tuple[Job, str]:
    folder, limits = site.store.input(name), site.settings.limits
    _check_length(request, limits)
    try:
        received = await uploads.receive(
            request.headers.get("content-type", ""), request.stream(), folder, limits
        )
    except ClientDisconnect as error:
        raise InputFileError("the upload was interrupted; nothing was stored") from error
    wanted = received.fields.get("name", "").strip()
    roles = _roles(received.fields.get("roles", ""))
    model = received.fields.get("model", "") or site.settings.model

    def arrange() -> dict[str, str]:
        return uploads.arrange(uploads.unpack(received, folder, limits), folder, roles)

    files = await run_in_threadpool(arrange)
    job = Job(name, model, files)
    if wanted:
        job = Job(site.store.rename(name, wanted), model, files)
    site.jobs.add(job)
    try:
        preview = await site.jobs.check(job)
    except BaseException:
        site.jobs.forget(job)
        raise
    checked = site.jobs.find(job.id)
    return checked or job, preview


def _check_length(request: Request, limits: uploads.Limits) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limits.size:
        raise InputFileError(
            f"the upload is larger than {limits.size / 2**20:.0f} MiB, the limit of one upload; "
            "upload one scan at a time, without other series"
        )


def _roles(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        roles = json.loads(text)
    except ValueError as error:
        raise InputFileError("`roles` must be a JSON object: role by file name") from error
    if not isinstance(roles, dict) or not all(isinstance(v, str) for v in roles.values()):
        raise InputFileError("`roles` must be a JSON object: role by file name")
    return roles


async def show_scan(request: Request) -> Response:
    """Answer with everything known about a scan."""
    site = site_of(request)
    scan = request.path_params["scan"]
    result = site.worklist.find(scan)
    if result is not None:
        return JSONResponse(site.worklist.details(result))
    row = next((row for row in site.rows() if row["id"] == scan), None)
    if row is None:
        raise HTTPException(404, "there is no scan with this identifier")
    return JSONResponse(row)


async def cancel(request: Request) -> Response:
    """Stop the job of a scan."""
    site = site_of(request)
    job = _job(site, request)
    if job.state not in {"checking", "queued", "running"}:
        raise HTTPException(409, f"the job is {job.state}; there is nothing to cancel")
    await site.jobs.cancel(job)
    return JSONResponse({"id": job.id, "state": "cancelled"})


async def forget(request: Request) -> Response:
    """Remove the row of a job that failed or was cancelled; results are never deleted."""
    site = site_of(request)
    job = _job(site, request)
    if job.state in {"checking", "queued", "running"}:
        raise HTTPException(409, "the job is not finished; cancel it first")
    if site.worklist.find(job.id) is not None:
        raise HTTPException(409, "this scan has a result, which the page never deletes")
    site.jobs.forget(job)
    return Response(status_code=204)


def _job(site: Site, request: Request) -> Job:
    job = site.jobs.find(request.path_params["scan"])
    if job is None:
        raise HTTPException(404, "there is no job with this identifier")
    return job


async def image(request: Request) -> Response:
    """Answer with an image of the viewer."""
    site = site_of(request)
    name = request.path_params["image"]
    if name not in IMAGES:
        raise HTTPException(404, f"there is no such image; use one of {', '.join(IMAGES)}")
    # A blinded reader needs the images, but not what the method made of them.
    result = site.result(request, blinded=name != "probability")
    return _file(site, result, IMAGES[name], "application/gzip")


async def thumbnail(request: Request) -> Response:
    """Answer with the thumbnail of a result, drawn once per mask."""
    site = site_of(request)
    result = site.result(request)
    cached = site.store.own / "thumbnails" / f"{result.id}-{result.version[:16]}.jpg"
    if not cached.is_file():
        paths = [site.worklist.file(result, name) for name in (IMAGES["dwi"], OUTLINE)]
        if None in paths:
            raise HTTPException(404, "this result has no DWI or no lesion mask")
        async with site.drawing:
            picture = await site.workers.run(
                "draw_thumbnail", dwi=str(paths[0]), lesion=str(paths[1])
            )
        draft = cached.with_name(f".{cached.name}.{os.urandom(4).hex()}")
        draft.write_bytes(base64.b64decode(picture))
        draft.replace(cached)
    return FileResponse(
        cached, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
    )


async def get_mask(request: Request) -> Response:
    """Answer with the voxels of the lesion mask, or of the automatic one."""
    site = site_of(request)
    result = site.result(request)
    original = request.query_params.get("which") == "automatic"
    name = _AUTOMATIC if original and site.worklist.file(result, _AUTOMATIC) else OUTLINE
    path = site.worklist.file(result, name)
    if path is None:
        raise HTTPException(404, f"the result has no {name}")
    mask = await site.workers.run("read_mask", path=str(path))
    return JSONResponse({**mask, "version": result.version})


async def put_mask(request: Request) -> Response:
    """Save an edited mask: measure it again, and add a line to the audit trail."""
    site = site_of(request)
    result = site.result(request)
    body = await json_body(request, labels=str, version=str, by=str, reason=str)
    async with site.saving:
        line = await site.workers.run(
            "save_edit",
            folder=str(result.folder),
            **{name: body[name] for name in ("labels", "version", "by", "reason")},
        )
    site.worklist.refresh()
    site.announce()
    after = site.worklist.find(result.id)
    return JSONResponse({"correction": line, "version": after.version if after else ""})


async def report(request: Request) -> Response:
    """Answer with the report of a result, in an origin of its own."""
    site = site_of(request)
    response = _file(site, site.result(request), "report.html", "text/html")
    response.headers["Content-Security-Policy"] = REPORT_POLICY
    return response


async def download(request: Request) -> Response:
    """Answer with one file of a result."""
    site = site_of(request)
    name = request.path_params["file"]
    result = site.result(request)
    if name not in DOWNLOADS:
        raise HTTPException(404, "this file is not offered for download")
    response = _file(site, result, name, "application/octet-stream")
    last = f"{result.name.replace('/', '_')}_{Path(name).name}"
    response.headers["Content-Disposition"] = _attachment(last)
    return response


async def download_all(request: Request) -> Response:
    """Answer with the whole result folder as a zip file."""
    site = site_of(request)
    result = site.result(request)
    stream = await run_in_threadpool(_pack, result.folder)
    name = f"{result.name.replace('/', '_')}.zip"
    return StreamingResponse(
        _blocks(stream),
        media_type="application/zip",
        headers={"Content-Disposition": _attachment(name)},
    )


def _attachment(name: str) -> str:
    plain = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
    return f'attachment; filename="{plain.encode("ascii", "replace").decode().replace("?", "_")}"'


def _pack(folder: Path) -> IO[bytes]:
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it has been sent
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for parent, folders, files in os.walk(folder):
            folders.sort()
            for each in sorted(files):
                path = Path(parent, each)
                # A link could lead to any file of this user.
                if not path.is_symlink():
                    archive.write(path, Path(folder.name) / path.relative_to(folder))
    stream.seek(0)
    return stream


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while block := stream.read(_BLOCK):
            yield block


def _file(site: Site, result: Result, name: str, kind: str) -> FileResponse:
    path = site.worklist.file(result, name)
    if path is None:
        raise HTTPException(404, f"this result has no {name}")
    return FileResponse(path, media_type=kind)


ROUTES = [
    Route("/api/scans", list_scans, methods=["GET"]),
    Route("/api/scans", upload, methods=["POST"]),
    Route("/api/models", list_models, methods=["GET"]),
    Route("/api/events", events, methods=["GET"]),
    Route("/api/scans/{scan}", show_scan, methods=["GET"]),
    Route("/api/scans/{scan}", forget, methods=["DELETE"]),
    Route("/api/scans/{scan}/cancel", cancel, methods=["POST"]),
    Route("/api/scans/{scan}/images/{image}.nii.gz", image, methods=["GET"]),
    Route("/api/scans/{scan}/thumbnail.jpg", thumbnail, methods=["GET"]),
    Route("/api/scans/{scan}/mask", get_mask, methods=["GET"]),
    Route("/api/scans/{scan}/mask", put_mask, methods=["PUT"]),
    Route("/api/scans/{scan}/report", report, methods=["GET"]),
    Route("/api/scans/{scan}/files/{file:path}", download, methods=["GET"]),
    Route("/api/scans/{scan}/result.zip", download_all, methods=["GET"]),
]


def error_body(error: InfarctError | HTTPException) -> dict[str, Any]:
    """Return the body of the answer to a request that failed."""
    return {"error": error.detail if isinstance(error, HTTPException) else str(error)}
