"""The words by which names of classes are told from names of people (see `classes`)."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ID_WORDS = _words(
    """
    accession case id mrn pat patient patients person pt study sub subj subject uid
    """
)
"""Before a number: patient_3, case 17."""

PERSON_TITLES = _words(
    """
    dr frau herr miss mme mr mrs ms prof sr sra
    """
)
"""Before a person's name."""

GIVEN_NAMES = _words(
    """
    aaron ahmed aisha alan albert alejandro alexander alexandra ali alice amir amy ana andrea andreas andrew
    angela anita ann anna anne anthony antonio barbara benjamin bernd bob brian bruno carla carlos carmen
    caroline catherine charles charlotte chen christian christina christine christopher claudia daniel
    daniela david deborah diana diego dieter dimitri dmitri donald dorothy eduardo edward elena elisabeth
    elizabeth emily emma enrique erik eva fatima fernando francisco frank friedrich gabriel georg george
    gerald giovanni giulia giuseppe gustavo hans hassan heinrich helen helena helga henry hiroshi ibrahim
    ingrid irene isabel ivan jack jacob jakob james jan jane janet jason javier jean jennifer jessica jesus
    joan johann john jonathan jorge jose josef joseph joshua juan juergen julia julie jürgen karen karin
    karl kenneth kevin klaus kumar laura leon li linda lisa luca lucas lucia luigi luis maria marie mario
    marta martin mary matthew maximilian mehmet melissa michael michelle miguel mohamed mohammed monika
    muhammad mustafa nancy natalia nguyen nicole nikolai olga oliver olivia omar pablo pamela patricia
    patrick paul paula pedro peter petra philip pierre priya rachel rafael raj ralph ramon rebecca renate
    ricardo richard robert roberto roger ronald rosa ruth samuel sandra sara sarah sebastian sergei sharon
    sofia sophie stefan stephanie stephen steven susan susanne svetlana takashi teresa thomas timothy tobias
    ursula uwe victor victoria vladimir walter wang wei werner william wolfgang yuki yusuf zhang
    """
)
"""Common ones of several languages."""

TERMS = _words(
    """
    abnormal abnormality abscess acute adenopathy air airspace aorta aortic apical ards asthma atelectasis
    bacteria bacterial baseline benign bilateral blunting bone bronchial bronchiectasis bronchitis cancer
    cardiac cardiomediastinum cardiomegaly catheter cavity chest chronic class clean clear collapse
    congestion consolidation control copd corona coronavirus costophrenic covid cxr cyst data device devices
    diaphragm diffuse disease diseased dissection edema effusion elongation embolism emphysema enlarge
    enlarged enlargement fibrosis fibrotic finding findings fluid follow foreign fracture free frontal
    fungal glass ground healthy heart hemothorax hernia high hilar hypertension ild image images
    inconclusive infection infiltrate infiltration inflammation inspiratory interstitial issue label lateral
    left lesion lesions line lines low lower lung lungs malignant mass mediastinal mediastinum metastasis
    mild misc moderate ncov negative new no nodule nodules non none normal normals not object old opacities
    opacity other others pa pacemaker pathological pathology pericardial ph pleura pleural pneumo pneumonia
    pneumoperitoneum pneumothorax positive post pre present pulmonary ray rays rib right sars scar scarring
    scoliosis severe sick silicosis small spine stage sternotomy subcutaneous support suspected tb test
    thickening thorax train tube tuberculosis tumor tumour type uncertain unknown unremarkable upper val
    valid validation viral virus volume wall widened with without x xray
    """
)
"""That names of classes of X-rays are made of; one of them makes a name a class's."""
