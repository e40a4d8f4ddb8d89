"""Pictures with known geometry: the types, the sources, the augmentation."""
