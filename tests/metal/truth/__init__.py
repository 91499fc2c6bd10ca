"""What Apple says of Metal, from two independent sources: metal-cpp's headers and what Apple's compiler left in PyObjC."""
