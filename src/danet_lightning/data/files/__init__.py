"""From folders of images and labels to pixels."""
