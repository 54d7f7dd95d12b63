"""Which texts in place of a patient's id say that the patient is unknown: ANONYMOUS, nan, n/a, -, 0."""

PLACEHOLDERS = frozenset(
    {
        *("anon", "anonym", "anonymous", "anonymized", "anonymised", "anonymize", "anonymise"),
        *("anonymouspatient", "anonymizedpatient", "anonymisedpatient", "anonymouspatientid"),
        *("deidentified", "deid", "deidentifiedpatient", "blank", "confidential", "dummy", "empty", "hidden"),
        *("missing", "na", "nan", "nil", "noid", "noname", "none", "nopatient", "nopatientid", "null"),
        *("notapplicable", "notavailable", "notknown", "notprovided", "patient", "patientid", "redacted"),
        *("removed", "tbd", "undefined", "undisclosed", "unk", "unkn", "unknown", "unknownpatient"),
        *("unknownid", "unnamed", "unspecified", "withheld"),
    }
)
"""In lower case, without spaces and signs. A number behind one (anon17) makes it a pseudonym: known."""

SPREADSHEET_ERRORS = frozenset({"#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#DIV/0!"})


def known(patient: str | None) -> str | None:
    """The id without surrounding space, or None where it names nobody: a placeholder, signs, 0000, XX."""
    text = (patient or "").strip().strip("\0").strip()
    if text.upper() in SPREADSHEET_ERRORS:
        return None
    plain = "".join(filter(str.isalnum, text.lower()))
    if plain in PLACEHOLDERS or not plain.strip("0") or (len(plain) > 1 and not plain.strip("x")):
        return None
    return text
