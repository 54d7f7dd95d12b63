"""The words by which names of classes are distinguished from names of people (see `classes`)."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ID_WORDS = _words(
    """
    accession anon anonymous case client id mrn participant pat patient patients person pt px study sub subj
    subject uid volunteer
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
    akut auffällig befund entzündung erguss gesund krank lungenentzündung normalbefund ohne pleuraerguss
    pneumonie unauffällig
    derrame neumonia neumotórax sano
    anormal malade sain
    abnormal abnormality abnormals abscess active acute adenopathy adult air airspace all alveolar any aorta
    aortic apical ards artefact artifact aspergillosis asthma atelectasis bacteria bacterial bad baseline
    benign bilateral blunting bone bronchial bronchiectasis bronchiolitis bronchitis calcification calcified
    cancer cardiac cardiomediastinum cardiomegaly catheter cavitary cavitation cavity chest child
    chlamydophila chronic class clean clear collapse congestion consolidation control copd corona
    coronavirus costophrenic covid ct cxr cxrs cyst data dataset dcm device devices diaphragm dicom diffuse
    disease diseased dissection domain ecoli edema effusion effusions elongation embolism emphysema
    emphysematous empyema enlarge enlarged enlargement erect fake female fibrosis fibrotic finding findings
    flu fluid follow foreign fracture free frontal fungal generated glass good granuloma ground healed
    healthy heart hemothorax hernia herpes high hilar hydropneumothorax hyperinflation hypertension ild
    image images implant inconclusive infarction infection infiltrate infiltration inflammation influenza
    inspiratory interstitial inverted issue jpeg jpg junk klebsiella kyphosis label labeled labelled latent
    lateral left legionella lesion lesions line lines lipoid low lower lung lungs lymphadenopathy lymphoma
    male malignant mass mediastinal mediastinum mers metastasis mild miliary misc mixed moderate mri
    mycoplasma ncov neg negative negatives new no nocardia nodular nodule nodules nofinding noisy non
    non_covid none normal normals not object oblique old opacities opacity other others pa pacemaker
    paediatric pathological pathology pediatric pericardial ph photo picture pictures pleura pleural
    pleuritis pneu pneumo pneumoconiosis pneumocystis pneumonia pneumonias pneumonitis pneumoperitoneum
    pneumothorax png portable pos positive positives post pre present prosthesis pulmonary radiograph
    radiographs ray rays real rib right rotated sample samples sarcoidosis sars scar scarring scoliosis set
    severe sick silicosis small source spine stage staphylococcus sternotomy streptococcus subcutaneous
    supine support suspected synthetic target tb test thickening thorax train tube tuberculosis tumor tumour
    type ultrasound uncertain unknown unlabeled unlabelled unremarkable upper upright val valid validation
    varicella viral virus volume wall widened with without x xray xrays yes
    """
)
"""That names of classes of X-rays are made of; one of them makes a name a class's."""
