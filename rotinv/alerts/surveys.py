"""The surveys and brokers whose alerts are known, each as one description (rotinv/alerts/profiles.py).

ZTF: ztf-avro-alert 1.8 to 4.02, also as Fink, ALeRCE and BABAMUL send and store them. Rubin:
lsst.alert.packet 3.0 to 11.1, also as Fink sends and stores them; BABAMUL's LSST messages have their own
fields. Which of it was held against real alerts, docs/alerts.md tells.
"""

from rotinv.alerts.profiles import Profile, Score, Sign

_JD = 2400000.5  # of MJD 0


def _of(record: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{record}.{name}" for name in names)


_PIXELS = (  # what a flag of Rubin's says of the pixels of a source: lsst.v11_1.diaSource
    *("bad", "cr", "crCenter", "edge", "nodata", "nodataCenter", "interpolated", "interpolatedCenter"),
    *("offimage", "saturated", "saturatedCenter", "suspect", "suspectCenter", "streak", "streakCenter"),
    *("injected", "injectedCenter", "injected_template", "injected_templateCenter"),
)


def _pixel_flags(record: str) -> tuple[str, ...]:
    return (f"{record}.pixelFlags", *(f"{record}.pixelFlags_{name}" for name in _PIXELS))


_ZTF = Profile(
    survey="ztf",
    schemas=("ztf.alert", "EnrichedZtfAlert", "*.EnrichedZtfAlert"),
    publishers=("ZTF*",),
    object_ids=r"ZTF\d\d[a-z]{7}",
    fields=("candidate.isdiffpos", "cutoutDifference"),
    object_id=("objectId",),
    candidate_id=("candid", "candidate.candid"),
    snr=("candidate.scorr",),
    sign=(Sign("candidate.isdiffpos", "positive"),),
    flipped=True,
    place="edge",
    side=63,
    x="candidate.xpos",
    y="candidate.ypos",
    image=(3072, 3080),
    ra=("candidate.ra",),
    dec=("candidate.dec",),
    mjd=(("candidate.jd", _JD),),
    band=("candidate.fid", "candidate.band"),
    bands=(("1", "g"), ("2", "r"), ("3", "i")),
    magnitude=("candidate.magpsf",),
    score=(Score("candidate.drb", "candidate.drbversion"), Score("candidate.rb", "candidate.rbversion")),
    pixel_flags=("candidate.nbad",),
)

_LSST = Profile(
    survey="lsst",
    schemas=("lsst.v*.alert",),
    fields=("diaSource.diaSourceId", "cutoutDifference"),
    object_id=("diaObject.diaObjectId", "diaSource.diaObjectId", "diaSource.ssObjectId"),
    candidate_id=("diaSource.diaSourceId", "diaSourceId"),
    snr=("diaSource.snr",),
    sign=(
        Sign("diaSource.isNegative", "negative"),  # from 8.0 on
        Sign("diaSource.is_negative", "negative"),  # 7.3 and 7.4
        Sign("diaSource.psfFlux", "flux"),
        Sign("diaSource.psFlux", "flux"),  # before 5.0
    ),
    flipped=False,
    place="box",
    x="diaSource.x",
    y="diaSource.y",
    ra=("diaSource.ra",),
    dec=_of("diaSource", "dec", "decl"),
    mjd=(("diaSource.midpointMjdTai", 0.0), ("diaSource.midPointTai", 0.0)),
    band=_of("diaSource", "band", "filterName"),
    flux=_of("diaSource", "psfFlux", "psFlux"),
    score=(Score("diaSource.reliability", "diaSource.reliabilityVersion"),),
    pixel_flags=_pixel_flags("diaSource"),
)

_BABAMUL_LSST = Profile(  # Rubin's cut-outs, and the source's fields in `candidate`, without x and y
    survey="lsst",
    schemas=("EnrichedLsstAlert", "*.EnrichedLsstAlert"),
    fields=("candidate.diaSourceId", "cutoutDifference"),
    object_id=("objectId", "candidate.objectId"),
    candidate_id=("candid", "candidate.diaSourceId"),
    snr=_of("candidate", "snr", "snr_psf"),
    sign=(
        Sign("candidate.isNegative", "negative"),
        Sign("candidate.isdiffpos", "positive"),
        Sign("candidate.psfFlux", "flux"),
    ),
    flipped=False,
    place="wcs",
    ra=("candidate.ra",),
    dec=("candidate.dec",),
    mjd=(("candidate.midpointMjdTai", 0.0), ("candidate.jd", _JD)),
    band=("candidate.band",),
    magnitude=("candidate.magpsf",),
    flux=("candidate.psfFlux",),
    score=(Score("candidate.reliability", "candidate.reliabilityVersion"),),
    pixel_flags=_pixel_flags("candidate"),
)

_GATTINI = Profile(  # its camera sees J only
    survey="gattini",
    schemas=("pgir.alert",),
    publishers=("pgir*",),
    object_ids=r"PGIR\d\d[a-z]+",
    fields=("candidate.isdiffpos", "cutoutDifference"),
    object_id=("objectId",),
    candidate_id=("candid",),
    snr=("candidate.scorr",),
    sign=(Sign("candidate.isdiffpos", "positive"),),
    side=61,
    ra=("candidate.ra",),
    dec=("candidate.dec",),
    mjd=(("candidate.jd", _JD),),
    magnitude=("candidate.magpsf",),
    score=(Score("candidate.drb", "candidate.drbversion"),),
)

_WINTER = Profile(
    survey="winter",
    schemas=("winter.alert",),
    publishers=("WINTER*",),
    object_ids=r"WNTR\d\d[a-z]+",
    fields=("candidate.isdiffpos", "cutout_difference"),
    template="cutout_template",
    science="cutout_science",
    difference="cutout_difference",
    object_id=("objectid",),
    candidate_id=("candid",),
    snr=("candidate.scorr",),
    sign=(Sign("candidate.isdiffpos", "positive"),),
    side=81,
    ra=("candidate.ra",),
    dec=("candidate.dec",),
    mjd=(("candidate.jd", _JD),),
    band=("candidate.fid",),
    bands=(("1", "Y"), ("2", "J"), ("3", "H")),  # the alerts', not those of the schema's text (0 is Y)
    magnitude=("candidate.magpsf",),
    score=(Score("candidate.rb", "candidate.rbversion"),),
    pixel_flags=("candidate.nbad",),
)

_DECAM = Profile(
    survey="decam",
    schemas=("desirt.alert",),
    publishers=("DESIRT*",),
    fields=("candidate.forcediffimflux", "cutoutDifference"),
    object_id=("objectId",),
    candidate_id=("candid",),
    snr=(
        "candidate.psfFlux / candidate.psfFluxErr",
        "candidate.forcediffimflux / candidate.forcediffimfluxunc",
    ),
    sign=(Sign("candidate.isdiffpos", "positive"),),
    side=63,
    ra=("candidate.ra",),
    dec=("candidate.dec",),
    mjd=(("candidate.mjd", 0.0),),
    band=("candidate.band",),
    magnitude=("candidate.forcediffimmag",),
    flux=("candidate.psfFlux",),
    score=(Score("candidate.reliability"),),
)

_ATLAS = Profile(  # no template; isdiffpos contradicts the flux and the pixels of both real alerts seen
    survey="atlas",
    schemas=("atlas.alert",),
    publishers=("ATLAS*",),
    fields=("candidate.flux", "cutoutDifference"),
    object_id=("objectId",),
    candidate_id=("candid", "candidate.candid"),
    snr=("candidate.flux / candidate.Dflux",),
    sign=(Sign("candidate.flux", "flux"),),
    flipped=False,
    side=61,
    ra=("candidate.RA",),
    dec=("candidate.Dec",),
    mjd=(("candidate.mjd", 0.0),),
    band=("candidate.filter",),
    magnitude=("candidate.Mag",),
    flux=("candidate.flux",),
    nanojansky=1000.0,  # it is in microjansky
    score=(Score("candidate.rb"),),
)

_TURBO = Profile(
    survey="turbo",
    schemas=("turbo.alert",),
    publishers=("turbo*",),
    fields=("candidate.isdiffpos", "cutoutDifference"),
    object_id=("objectId",),
    candidate_id=("candid", "candidate.candid"),
    snr=("candidate.scorr",),
    sign=(Sign("candidate.isdiffpos", "positive"),),
    side=63,
    ra=("candidate.ra",),
    dec=("candidate.dec",),
    mjd=(("candidate.jd", _JD),),
    band=("candidate.fid",),
    magnitude=("candidate.magpsf",),
    score=(Score("candidate.rb", "candidate.rbversion"),),
    pixel_flags=("candidate.nbad",),
)

SURVEYS = (_BABAMUL_LSST, _LSST, _ZTF, _GATTINI, _WINTER, _DECAM, _ATLAS, _TURBO)
