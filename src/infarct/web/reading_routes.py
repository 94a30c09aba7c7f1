"""Routes for blinded double reading; see `readings.py`."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infarct.web.scan_routes import site_of
from infarct.web.site import Site, json_body


async def start_reading(request: Request) -> Response:
    """Start a reading; the answer contains the key of this reader."""
    site = site_of(request)
    result = site.result(request, blinded=True)
    body = await json_body(request, reader=str, hide_automatic=bool)
    reader = site.readings.join(result.id, body["reader"], hide_automatic=body["hide_automatic"])
    site.announce()
    return JSONResponse({"key": reader.key, "reader": reader.name}, status_code=201)


async def submit_reading(request: Request) -> Response:
    """Store the mask of a reader; with the second mask, compute the agreement."""
    site = site_of(request)
    result = site.result(request, blinded=True)
    body = await json_body(request, labels=str, key=str)
    async with site.saving:
        number = site.readings.check_open(result.id, body["key"])
        path = site.readings.mask(result.id, number)
        await site.workers.run(
            "store_reading", folder=str(result.folder), labels=body["labels"], path=str(path)
        )
        reading = site.readings.submit(result.id, number)
    if reading.complete:
        await _compare_all(site)
    site.announce()
    return JSONResponse(site.readings.get(result.id).public())


async def get_reading(request: Request) -> Response:
    """Answer with a submitted mask, once both readers are done."""
    site = site_of(request)
    result = site.result(request, blinded=True)
    which = request.path_params["which"]
    if not site.readings.get(result.id).complete:
        raise HTTPException(423, "hidden until both readings are submitted")
    if which not in {"1", "2"}:
        raise HTTPException(404, "there are two readings: 1 and 2")
    path = site.readings.mask(result.id, int(which) - 1)
    return JSONResponse(await site.workers.run("read_mask", path=str(path)))


async def adjudicate(request: Request) -> Response:
    """Save the mask that a third reader decided on."""
    site = site_of(request)
    result = site.result(request)
    body = await json_body(request, labels=str, version=str, by=str, reason=str)
    async with site.saving:
        reading = site.readings.check_adjudicator(result.id, body["by"])
        first, second = (reader.name for reader in reading.readers)
        reason = f"adjudication of the readings of {first} and {second}: {body['reason']}"
        if not body["reason"].strip():
            raise HTTPException(422, "give the reason for the decision; nothing was saved")
        line = await site.workers.run(
            "save_edit",
            folder=str(result.folder),
            labels=body["labels"],
            version=body["version"],
            by=body["by"],
            reason=reason,
        )
        reading = site.readings.adjudicate(result.id, body["by"])
    site.worklist.refresh()
    site.announce()
    return JSONResponse({"correction": line, "double_reading": reading.public()})


async def list_readings(request: Request) -> Response:
    """Answer with the agreement of all complete double readings."""
    return JSONResponse(await _compare_all(site_of(request)))


async def _compare_all(site: Site) -> dict[str, object]:
    """Compare the readings that were completed since the last time, and summarise all."""
    complete = {scan: each for scan, each in site.readings.all().items() if each.complete}
    fresh = [scan for scan, each in complete.items() if each.agreement is None]
    known = {scan: each.agreement for scan, each in complete.items() if each.agreement}
    found = await site.workers.run(
        "summarise_readings",
        pairs=[[str(site.readings.mask(scan, number)) for number in (0, 1)] for scan in fresh],
        known=list(known.values()),
    )
    for scan, agreement in zip(fresh, found["new"], strict=True):
        site.readings.record_agreement(scan, agreement)
        known[scan] = agreement
    names = {row["id"]: row["name"] for row in site.rows()}
    rows = [
        {"id": scan, "name": names.get(scan, scan), **complete[scan].public(), "agreement": each}
        for scan, each in known.items()
    ]
    return {"summary": found["summary"], "scans": rows}


ROUTES = [
    Route("/api/readings", list_readings, methods=["GET"]),
    Route("/api/scans/{scan}/reading", start_reading, methods=["POST"]),
    Route("/api/scans/{scan}/reading", submit_reading, methods=["PUT"]),
    Route("/api/scans/{scan}/reading/{which}", get_reading, methods=["GET"]),
    Route("/api/scans/{scan}/adjudication", adjudicate, methods=["POST"]),
]
