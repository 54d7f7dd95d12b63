"""Small tables of label files in the forms of public sets, and what is read from them."""

from pathlib import Path

from shards.labels import LabelOptions, Labels, read_labels
from shards.labels.matching import list_with_labels

CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
    "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
    "Fracture,Support Devices\n"
)
CHEXPERT_ROWS = """\
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0
CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,
CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg,Female,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,
CheXpert-v1.0-small/train/patient00003/study1/view1_frontal.jpg,Male,41,Frontal,AP,,,,,,1.0,,,,0.0,,,,
CheXpert-v1.0-small/train/patient00004/study1/view1_frontal.jpg,Female,20,Frontal,PA,1.0,0.0,,,,,0.0,,,,0.0,,,
CheXpert-v1.0-small/train/patient00005/study1/view1_frontal.jpg,Male,33,Frontal,PA,,,,,,-1.0,,,,,,,,
CheXpert-v1.0-small/train/patient00006/study1/view1_frontal.jpg,Male,42,Frontal,AP,,,,,,,,,,0.0,0.0,,,1.0
CheXpert-v1.0-small/train/patient00007/study1/view1_frontal.jpg,Male,69,Frontal,AP,1.0,,,,,1.0,,,,,,,,
"""
MIMIC = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,"
    "Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,"
    "Support Devices\n"
)
MIMIC_ROWS = """\
10000032,50414267,,,,,,,,,1.0,,,,,
10000032,53189527,,,,,,,,,1.0,,,,,
10000764,57375967,,,1.0,,,,,,,,,-1.0,,
10000898,50771383,,,,-1.0,,,,,,,,,,
10000935,50578979,,,,,,,1.0,1.0,,0.0,,-1.0,,
"""
PADCHEST = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,"
    "Projection,MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,"
    "PixelRepresentation_DICOM,PixelAspectRatio_DICOM,SpatialResolution_DICOM,BitsStored_DICOM,"
    "WindowCenter_DICOM,WindowWidth_DICOM,Rows_DICOM,Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,"
    "ExposureInuAs_DICOM,ExposureTime,RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,"
    "Localizations,LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS\n"
)
RSNA = "patientId,x,y,width,height,Target\n"
SIIM = "ImageId, EncodedPixels\n"
UID = "1.2.276.0.7230010.3.1.4.8323329.5597.151787518"


def padchest_row(number: int, image: str, patient: str, view: str, labels: str) -> str:
    cells = [str(number), image, "0", "20140915", f"2035{number}", patient, "1930.0", "M", "POSTEROANTERIOR"]
    cells += [
        view,
        "Manual review of DICOM fields",
        "No",
        *["None"] * 16,
        "4765777",
        "sin hallazgos  .",
        "Physician",
    ]
    return (
        ",".join([*cells, '"' + labels.replace('"', '""') + '"', "[]", "\"[['x'], ['y, z']]\"", "[]", "[]"])
        + "\n"
    )


PADCHEST_ROWS = [
    ("1_a.png", "839860488694292331637988235681460987", "PA", "['normal']"),
    ("2_b.png", "313572750430997347502932654319389875966", "L", "['pulmonary fibrosis', 'chronic changes']"),
    ("3_c.png", "50783093527901818115970441560205249", "PA", "['kyphosis', ' pseudonodule', '']"),
    ("4_d.png", "93231698163474821614808891732387649", "AP_horizontal", "['exclude']"),
    ("5_e.png", "93231698163474821614808891732387649", "COSTAL", "['rib fracture']"),
    ("6_f.png", "1", "PA", "['unchanged']"),
    ("7_g.png", "1", "PA", "nan"),
    ("8_h.png", "2", "PA", "['normal', 'copd signs']"),
    ("9_i.png", "2", "AP", '["Chilaiditi\'s sign"]'),
    ("10_j.png", "3", "AP", "['normal', 'unchanged']"),
]
PADCHEST_FILE = PADCHEST + "".join(padchest_row(i, *row) for i, row in enumerate(PADCHEST_ROWS))


def read(folder: Path, text: str, **options: object) -> Labels:
    path = folder / "labels.csv"
    path.write_text(text)
    return read_labels(path, LabelOptions(**options))  # type: ignore[arg-type]


def classes(labels: Labels) -> list[str]:
    """The class of each image, or the reason for which it has none."""
    return [
        "conflict" if image.conflict else image.label or image.left_out for image in labels.images.values()
    ]


def found(folder: Path, labels: Labels, *names: str) -> dict[str, tuple[str, str | None]]:
    for name in names:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_bytes(b"")
    listing = list_with_labels([folder / "in"], labels)
    return {image.name: (image.label, image.patient) for image in listing.images}


N, F, U, O, S = (
    "no_finding",
    "finding",
    "uncertain",
    "only other findings",
    "neither a finding nor their absence",
)

RSNA_ROWS = """\
0004cfab-14fd-4e49-80ba-63a80b6bddd6,,,,,0
00436515-870c-4b36-a041-de91049b9ab4,264.0,152.0,213.0,379.0,1
00436515-870c-4b36-a041-de91049b9ab4,562.0,152.0,256.0,453.0,1
00569f44-917d-4c86-a842-81832af98c30,,,,,0
00704310-78a8-4b38-8475-49f4573b2dbb,323.0,577.0,160.0,104.0,1
00704310-78a8-4b38-8475-49f4573b2dbb,,,,,0
"""
