"""Data sets as they are published: ImageNet, VOC, COCO, folders, WebDataset, Parquet and others."""
