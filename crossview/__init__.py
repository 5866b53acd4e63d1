"""Detection of static street objects in pairs of panoramas, linked by the known poses of the cameras."""
