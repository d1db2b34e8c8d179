"""Is every installed file still what its package said it would be?"""
