"""Writes schemas/samples/radiology-report.pdf: one page of PDF 1.4 (ISO 32000-1), from the standard library alone.

`python -m tests.server.radiology_report_pdf` writes the file again after a change to the text below. The streams are
not compressed, so that the sample can be read in any editor.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).parents[2] / "schemas" / "samples" / "radiology-report.pdf"

LEFT, TOP, RIGHT = 56, 786, 539
CHARACTERS_A_LINE = 92

PATIENT = (
    ("Patient", "Mrs Margaret Elowen ASHDOWN", "NHS number", "999 000 2649"),
    ("Date of birth", "17 September 1948 (female)", "Hospital number", "AV204417"),
    ("Examination", "2 March 2026, 10:05", "Accession number", "AV-26-003187"),
    ("Referrer", "Emergency department", "Reported", "2 March 2026, 11:15"),
)
SECTIONS = (
    ("Examination", ("Radiograph of the chest, PA erect.",)),
    (
        "Clinical information",
        (
            "Four days of productive cough, fever and right-sided pleuritic chest pain. SpO2 89 % on air, "
            "CRP 186 mg/L. Pneumonia?",
        ),
    ),
    ("Comparison", ("No earlier imaging is available.",)),
    (
        "Findings",
        (
            "There is airspace consolidation with air bronchograms in the right lower zone. The right "
            "hemidiaphragm is obscured and the right heart border is preserved, which places it in the "
            "lower lobe. The right costophrenic angle is blunted by a small effusion.",
            "The left lung is clear. The heart is not enlarged and the mediastinal contour is normal. There "
            "is no pneumothorax. Degenerative change in the thoracic spine.",
        ),
    ),
    (
        "Conclusion",
        (
            "Right lower lobe consolidation in keeping with pneumonia, with a small parapneumonic effusion. A "
            "repeat radiograph is advised in six weeks, to confirm that it has resolved.",
        ),
    ),
)
SIGNATURE = (
    "Dr Idris Pembroke, Consultant Radiologist",
    "Reported and authorised on 2 March 2026 at 11:15. Copy to: Dr Samir Quill, Larkspur Lane Surgery.",
)
NOTICE = "FICTIONAL SAMPLE. The patient, the people and the places in this report do not exist."


@dataclass(frozen=True, slots=True)
class Style:
    font: str
    size: int
    leading: int


HEADING = Style("F2", 17, 24)
LABEL = Style("F2", 10, 15)
BODY = Style("F1", 10, 14)


def _text(x: float, y: float, text: str, style: Style) -> str:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{style.font} {style.size} Tf {x} {y} Td ({escaped}) Tj ET"


def _rule(y: float) -> str:
    return f"0.6 G 0.8 w {LEFT} {y} m {RIGHT} {y} l S"


def _page() -> str:
    """The page's content stream, from the top down."""
    drawn = [
        f"0.93 0.95 0.98 rg {LEFT - 8} {TOP - 34} {RIGHT - LEFT + 16} 60 re f 0 g",
        _text(LEFT, TOP, "Ashcombe Vale NHS Foundation Trust", HEADING),
        _text(LEFT, TOP - 21, "Department of Radiology, Ashcombe Vale Hospital, Harebell Road, AV1 9ZZ", BODY),
    ]
    y = TOP - 62
    drawn.append(_text(LEFT, y, "Radiology report: chest radiograph", Style("F2", 13, 20)))
    y -= 26
    for label, value, other_label, other_value in PATIENT:
        drawn += [
            _text(LEFT, y, label, LABEL),
            _text(LEFT + 84, y, value, BODY),
            _text(LEFT + 280, y, other_label, LABEL),
            _text(LEFT + 380, y, other_value, BODY),
        ]
        y -= LABEL.leading
    drawn.append(_rule(y))
    y -= 24
    for title, paragraphs in SECTIONS:
        drawn.append(_text(LEFT, y, title, LABEL))
        y -= LABEL.leading
        for paragraph in paragraphs:
            for line in textwrap.wrap(paragraph, CHARACTERS_A_LINE):
                drawn.append(_text(LEFT, y, line, BODY))
                y -= BODY.leading
            y -= 5
        y -= 7
    drawn.append(_rule(y))
    y -= 20
    for line, style in zip(SIGNATURE, (LABEL, BODY), strict=True):
        drawn.append(_text(LEFT, y, line, style))
        y -= style.leading
    drawn += ["0.7 0.1 0.1 rg", _text(LEFT, 48, NOTICE, LABEL)]
    return "\n".join(drawn)


def radiology_report() -> bytes:
    """The whole file. ISO 32000-1, 7.5: header, body, cross-reference table, trailer."""
    content = _page().encode("cp1252")
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en-GB) /ViewerPreferences << /DisplayDocTitle true >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R\n"
        b"   /Resources << /Font << /F1 5 0 R /F2 6 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
        b"<< /Title (Radiology report: chest radiograph \\(fictional sample\\))\n"
        b"   /Author (Dr Idris Pembroke) /CreationDate (D:20260302111500Z) >>",
    )
    # Four bytes above 127 in the second line tell transfer programs that the file is binary (7.5.2).
    file = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    file += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    file += b"trailer\n<< /Size %d /Root 1 0 R /Info 7 0 R >>\n" % (len(objects) + 1)
    file += b"startxref\n%d\n%%%%EOF\n" % start
    return bytes(file)


if __name__ == "__main__":
    TARGET.write_bytes(radiology_report())
