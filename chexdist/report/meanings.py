"""What a reader must know of a metric, in one sentence: where its number stands, not in a manual."""

MEANINGS = {
    "kid_x1000": "distance of features from held-out X-rays; pairs of two X-rays of one patient are left out",
    "kid_all_pairs_x1000": "KID as it is usually computed, with those pairs",
    "fid": "distance of the features' means and covariances from held-out X-rays",
    "fid_train": "the same from the training images, as many papers have it: playing them back is best",
    "precision_k5": "share of generated images that lie among real ones",
    "recall_k5": "share of real X-rays that lie among generated ones; low where a generator repeats itself",
    "density_k5": "how many real X-rays a generated image lies close to, beside what is usual",
    "coverage_k5": "share of real X-rays with a generated image close to them",
    "feature_distance": "mean distance between two generated images; low where they resemble each other",
    "ms_ssim_own_pairs_256px": "similarity of two generated images of one class; high where a class "
    "repeats itself",
    "label_accuracy": "share of images in which the classifier sees the class that was asked for",
    "transfer_accuracy": "accuracy on held-out X-rays of a classifier that was trained on generated images; "
    "real X-rays: on as many training images",
    "mirrored": "share of images that look mirrored, with the heart on the wrong side",
    "upside_down": "share that look turned upside down",
    "inverted": "share that look like negatives",
    "near_copy_rate": "share of audited images that are more similar to a training image than X-rays of two "
    "patients are; the interval reckons with false alarms and with copies that are not found",
}
"""By the metric's name; one that is new is shown without."""
